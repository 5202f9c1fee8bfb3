"""A refusal says what is wrong and what is taken, and names the field."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

USER = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "scripted", "messages": USER}
TEXT: dict[str, Any] = {"model": "scripted", "prompt": "Hi"}

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("chat/completions", {**CHAT, "stop": ["x"] * 17}, "stop: at most 16 texts, got 17"),
    ("chat/completions", {**CHAT, "stop": 5}, "stop: a text or a list of texts, got 5"),
    ("chat/completions", {**CHAT, "stop": ["a", 5]}, "stop.1: a text, got 5"),
    ("chat/completions", {**CHAT, "stop": ""}, "stop: at least 1 character, got 0"),
    ("chat/completions", {**CHAT, "messages": "Hi"}, "messages: a list, got 'Hi'"),
    ("chat/completions", {**CHAT, "messages": ["Hi"]}, "messages.0: an object, got 'Hi'"),
    ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": 5}]},
     "messages.0.content: a text or a list of parts, got 5"),
    ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": [{"type": "text"}]}]},
     "messages.0.content.0: a part of the type text needs the text `text`"),
    ("chat/completions", {**CHAT, "tool_choice": "any"}, "tool_choice: one of 'none', 'auto', 'required' or an object, got 'any'"),
    ("chat/completions", {**CHAT, "tool_choice": {"type": "function"}}, "tool_choice.function: this field is required"),
    ("chat/completions", {**CHAT, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools: this field is required"),
    ("chat/completions", {**CHAT, "n": "2"}, "n: an integer, got '2'"),
    ("chat/completions", {**CHAT, "temperature": -1}, "temperature: at least 0, got -1"),
    ("chat/completions", {**CHAT, "logit_bias": {"1": 1000}}, "logit_bias.1: at most 100, got 1000"),
    ("chat/completions", {**CHAT, "ponder": {"strategy": "best_of_n", "verifier": {"regex": 5}}},
     "best_of_n: ponder.verifier.regex: a text, got 5"),
    ("chat/completions", {**CHAT, "ponder": {"strategy": "beam_search", "separator": ""}},
     "beam_search: ponder.separator: at least 1 character, got 0"),
    ("completions", {**TEXT, "prompt": {}},
     "prompt: a text, a list of integers, a list of texts or a list of lists of integers, got an object"),
    ("completions", {**TEXT, "prompt": [1, "a"]}, "prompt.1: an integer, got 'a'"),
    ("completions", {**TEXT, "prompt": ["a", 1]}, "prompt.1: a text, got 1"),
    ("completions", {**TEXT, "prompt": [[1], []]}, "prompt.1: at least 1 integer, got 0"),
    ("completions", {**TEXT, "prompt": [[1], [-1]]}, "prompt.1.0: at least 0, got -1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "message"), CASES, ids=[case[2] for case in CASES])
async def test_a_wrong_field_is_told_in_plain_words(serve, path: str, body: dict[str, Any], message: str) -> None:
    """Of a field that may have several forms, the fault within the form that the value comes nearest to is told."""
    async with serve() as served:
        response = await served.client.post(f"/v1/{path}", json=body)
    error = response.json()["error"]
    field = message.rpartition(": ")[0].rpartition(": ")[2]
    assert (response.status_code, error["message"], error["param"]) == (400, message, field)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The body must be a JSON object; it is empty."),
        (b"null", "The body must be a JSON object; it is empty."),
        (b"[1]", "The body must be a JSON object; it is a list."),
        (b'"text"', "The body must be a JSON object; it is a text."),
        (b'{"model": }', "The body is not valid JSON: Expecting value at character 10."),
        (b'{"model": "\xff"}', "The body is not valid UTF-8."),
        (b"[" * 100_000, "The body is nested too deep."),
        (b'{"seed": ' + b"9" * 5000 + b"}", "The body has a number with too many digits."),
    ],
    ids=["empty", "null", "list", "text", "cut", "not utf-8", "deep", "long number"],
)
async def test_an_unreadable_body_is_told_in_plain_words(serve, content: bytes, message: str) -> None:
    async with serve() as served:
        response = await served.client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
    assert (response.status_code, response.json()["error"]["message"]) == (400, message)


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({**CHAT, "messages": [{"role": "user", "content": "\ud83d"}]}, "messages.0.content"),
        (
            {**CHAT, "messages": [{"role": "user", "content": [{"type": "text", "text": "a\udc00b"}]}]},
            "messages.0.content.0.text",
        ),
        ({**CHAT, "user": "\ud800"}, "user"),
        ({**CHAT, "stop": ["a", "\ud800"]}, "stop.1"),
        ({**CHAT, "chat_template_kwargs": {"a": {"b": "\ud800"}}}, "chat_template_kwargs.a.b"),
        ({**CHAT, "metadata": {"\ud800": "a"}}, "metadata"),
        ({**CHAT, "\ud800": 1}, None),
    ],
    ids=["content", "part", "without effect", "list", "nested", "name", "name of a field"],
)
async def test_half_a_surrogate_pair_is_refused_wherever_it_stands(serve, body: dict[str, Any], parameter: str | None) -> None:
    """No encoding can hold it. A whole pair is a character."""
    async with serve() as served:
        import json

        headers = {"content-type": "application/json"}
        half = await served.client.post("/v1/chat/completions", content=json.dumps(body), headers=headers)
        emoji = {**CHAT, "messages": [{"role": "user", "content": "\N{GRINNING FACE}"}]}
        whole = await served.client.post("/v1/chat/completions", content=json.dumps(emoji), headers=headers)
    error = half.json()["error"]
    assert (half.status_code, error["param"]) == (400, parameter)
    assert "half a surrogate pair" in error["message"]
    assert whole.status_code == 200
