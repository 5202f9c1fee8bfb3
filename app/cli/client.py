"""What the commands share: the connection to a running server, errors in one line, and the escaping of texts for a terminal."""

import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from app.settings import ClientSettings

if TYPE_CHECKING:
    import httpx  # imported by `connect`: help pages do not need it

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="<url>", help="address of the server [default: http://127.0.0.1:8000] [env: PONDER_URL]"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for scripts", show_default=False)]

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that may steer a terminal: control, format (for instance bidirectional marks), surrogate, line separator."""

_SAFE = frozenset("\n\t\u200c\u200d")
"""Characters of these categories that texts need: line feeds, tabs, and the joiners of emoji and of several scripts."""


@contextmanager
def connect(url: str | None, key: str | None) -> Iterator["httpx.Client"]:
    """Give an HTTP client of the server. If the server does not answer, end the command with one line."""
    import httpx  # noqa: PLC0415

    url = url or ClientSettings().url
    headers = {b"Authorization": f"Bearer {key}".encode(errors="surrogateescape")} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(600, connect=10)) as client:
            yield client
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        exit_with_error(f"no answer from {url}: {error}")


def json_or_exit(response: "httpx.Response") -> Any:
    """Return the JSON of a successful response. For any other response, end the command with the server's message."""
    try:
        answer = response.json()
    except ValueError:
        exit_with_error(f"{response.status_code}: this is not a ponder server")
    if response.is_error:
        exit_with_error(answer.get("error", {}).get("message", response.status_code))
    return answer


def stream_events(response: "httpx.Response") -> Iterator[Any]:
    """The JSON events of a stream, without comments and the final `[DONE]`."""
    # httpx's own lines also end at U+0085 and U+2028, which texts may contain. Here a line ends at a line feed only.
    rest = b""
    for chunk in response.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (json.loads(line[6:]) for line in lines if line.startswith(b"data: {"))


def exit_with_error(message: object) -> NoReturn:
    """End the command with status 1 and one line."""
    sys.exit(f"ponder: {to_one_line(str(message))}")


def require_extra(extra: str, *modules: str) -> None:
    """End the command in one line when one of the modules of an optional dependency is not installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        exit_with_error(f"{missing[0]} is not installed: pip install 'ponder[{extra}]'")


def escape_controls(text: str) -> str:
    r"""The text with `\x1b` and the like in place of characters that may steer a terminal; line feeds and tabs stay."""
    text = text.replace("\r\n", "\n")
    return "".join(
        char if char in _SAFE or unicodedata.category(char) not in _UNSAFE else char.encode("unicode_escape").decode()
        for char in text
    )


def to_one_line(text: str) -> str:
    """The text escaped and in one line, each run of white space as one space."""
    return escape_controls(" ".join(text.split()))


def print_json(value: Any) -> None:
    """Print JSON for scripts; everything but printable ASCII is escaped."""
    typer.echo(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))
