"""The embedded model: its chat template, and its conversion, which is complete or absent."""

import json
from pathlib import Path

import jinja2
import pytest

from app.engine.weights import default_model
from app.engine.weights.conversions import ModelUnavailable
from app.engine.weights.default_model import CHAT_TEMPLATE, ensure_default_model

ORIGINAL = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful "
    "AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n\nthere "}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
    [{"role": "user", "content": "a"}, {"role": "system", "content": "late"}],
]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def render(template: str, **values: object) -> str:
    """Render a chat template as transformers does."""
    # Its `tojson` keeps the order of keys and escapes nothing, unlike jinja's own.
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["tojson"] = json.dumps
    return environment.from_string(template).render(**values)


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_without_tools_the_template_is_the_original(messages: list[dict], add_generation_prompt: bool) -> None:
    """They agree to the byte, since the model was trained on the original."""
    values = {"messages": messages, "add_generation_prompt": add_generation_prompt}
    assert render(CHAT_TEMPLATE.read_text(), **values) == render(ORIGINAL, **values)


def test_with_tools_it_is_hermes() -> None:
    """Signatures are in the system message; calls and results are in the tags that the parser reads."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "2"},
    ]
    text = render(CHAT_TEMPLATE.read_text(), messages=messages, tools=[TOOL], add_generation_prompt=True)
    assert text.count("<|im_start|>system") == 1
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert '"name": "add"' in text.split("</tools>")[1]
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>' in text
    assert "<tool_response>\n2\n</tool_response>" in text
    assert text.endswith("<|im_start|>assistant\n")


def test_an_interrupted_conversion_is_redone_never_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder gets its name only when it is complete."""

    def interrupted(_gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    def complete(_gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"whole")

    monkeypatch.setattr(default_model, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_default_model(tmp_path, lambda _line: None)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(default_model, "_convert", complete)
    folder = ensure_default_model(tmp_path, lambda _line: None)
    assert (folder / "model.safetensors").read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [folder]


def test_of_two_conversions_at_once_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other finds the folder and leaves it unchanged."""

    def overtaken(_gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"second")
        monkeypatch.setattr(default_model, "_convert", lambda _g, f: (f / "model.safetensors").write_bytes(b"first"))
        ensure_default_model(tmp_path, lambda _line: None)

    monkeypatch.setattr(default_model, "_convert", overtaken)
    folder = ensure_default_model(tmp_path, lambda _line: None)
    assert (folder / "model.safetensors").read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_wrong_file_is_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of the file is checked first."""
    monkeypatch.setattr(default_model, "SHA256", "0" * 64)
    with pytest.raises(ModelUnavailable, match="sha256"):
        ensure_default_model(tmp_path, lambda _line: None)
