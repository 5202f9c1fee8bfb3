"""The optional `chat_template.jinja` of an adapter: how conversations are written that the adapter was trained on.

A template is a program. Its sandbox keeps it from the machine, but not from running for ever. So only folders that the operator names
may have one; an upload's is left out, as every companion file that peft saves.
"""

from pathlib import Path

from adapters.errors import AdapterRefused

CHAT_TEMPLATE_FILE = "chat_template.jinja"
MAX_CHAT_TEMPLATE_BYTES = 65_536


def read_chat_template(path: Path) -> str | None:
    """Return the text of the file, None where there is no file; raises `AdapterRefused` for what is no text."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        content = file.read(MAX_CHAT_TEMPLATE_BYTES + 1)
    if len(content) > MAX_CHAT_TEMPLATE_BYTES:
        raise AdapterRefused(f"{path.name} is larger than {MAX_CHAT_TEMPLATE_BYTES} bytes.", parameter=path.name)
    try:
        return content.decode("utf-8")
    except UnicodeError as error:
        raise AdapterRefused(f"{path.name} is not valid UTF-8.", parameter=path.name) from error
