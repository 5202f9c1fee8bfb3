"""Requests that are made to end, to block or to fill the server. Each was seen to do so once."""

import json
import sqlite3

import pytest

from app.api.access import KnownCallers

pytestmark = pytest.mark.anyio

USER = [{"role": "user", "content": "What is 1 + 1?"}]
JSON = {"content-type": "application/json"}
ROUTES = {
    "/v1/chat/completions": {"model": "scripted", "messages": USER},
    "/v1/completions": {"model": "scripted", "prompt": "1 + 1 ="},
    "/v1/responses": {"model": "scripted", "input": "What is 1 + 1?"},
    "/v1/messages": {"model": "scripted", "messages": USER, "max_tokens": 8},
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "ponder",
    [
        {"strategy": "best_of_n", "n": 2, "verifier": {"json_schema": {"maximum": 2**64}}},
        {"strategy": "best_of_n", "n": 2, "verifier": {"number": 10**30}},
    ],
)
async def test_an_integer_that_no_reply_can_repeat_is_refused(serve, path: str, ponder: dict) -> None:
    """Before the search, and not after it."""
    async with serve() as served:
        for more in ({}, {"stream": True}, *([{"background": True}] if path == "/v1/responses" else [])):
            reply = await served.client.post(path, json={**ROUTES[path], **more, "ponder": ponder})
            assert reply.status_code == 400, reply.text


async def test_a_store_that_fails_ends_nothing(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer goes out, in the background as well, and the server goes on."""
    from app.api.responses.sqlite_store import SqliteStore

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteStore, "_save", fail)
    async with serve() as served:
        body = ROUTES["/v1/responses"]
        assert (await served.client.post("/v1/responses", json=body)).json()["status"] == "completed"
        assert (await served.client.post("/v1/responses", json={**body, "background": True})).status_code == 200
        streamed = await served.client.post("/v1/responses", json={**body, "background": True, "stream": True})
        assert "response.completed" in streamed.text
        assert (await served.client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {"prompt": [-1] * 5000}),
        ("/v1/responses", {"stop": [1] * 5000}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [1] * 5000}]}),
        ("/v1/chat/completions", {"logit_bias": {str(number): "x" for number in range(5000)}}),
    ],
)
async def test_thousands_of_faults_are_not_told_one_by_one(serve, path: str, fields: dict) -> None:
    async with serve() as served:
        reply = await served.client.post(path, json={**ROUTES[path], **fields})
    assert reply.status_code == 400
    assert "faults" in reply.text


async def test_the_body_of_a_stranger_is_not_read() -> None:
    """A server with keys asks for the key first."""
    sent: list[dict] = []

    async def never() -> dict:
        raise AssertionError("the body was read")

    async def keep(message: dict) -> None:
        sent.append(message)

    class OneKey:
        """Stands for `Access`."""

        def knows(self, key: str) -> bool:
            return key == "right"

    inner: list[str] = []

    async def app(*_: object) -> None:
        inner.append("asked")

    layer = KnownCallers(app, OneKey())
    scope = {"type": "http", "method": "POST", "path": "/v1/adapters", "headers": []}
    await layer(scope, never, keep)
    assert (sent[0]["status"], inner) == (401, [])
    for header in ((b"authorization", b"Bearer right"), (b"x-api-key", b"right")):
        await layer({**scope, "headers": [header]}, never, keep)
    assert inner == ["asked", "asked"]
    await layer({**scope, "headers": [(b"authorization", b"Bearer "), (b"x-api-key", b"right")]}, never, keep)
    assert len(inner) == 3, "the layer reads keys as the routes do"


@pytest.mark.parametrize("admin", [True, False])
async def test_keys_of_both_kinds_pass(serve, admin: bool) -> None:
    """A key for inference answers, and none is a 401 in the API's own shape."""
    async with serve(api_keys="one", **({"admin_keys": "two"} if admin else {})) as served:
        for path, body in ROUTES.items():
            assert (await served.client.post(path, json=body)).status_code == 401
            reply = await served.client.post(path, json=body, headers={"authorization": "Bearer one"})
            assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_errors_without_a_body_of_json_have_the_apis_shape(serve, path: str) -> None:
    async with serve(cors_origins="https://good.example") as served:
        assert (await served.client.head(path)).status_code == 405
        preflight = {"origin": "https://bad.example", "access-control-request-method": "POST"}
        reply = await served.client.options(path, headers=preflight)
    assert reply.status_code == 400
    assert reply.json()["type"] == "error"


@pytest.mark.parametrize("calls", [None, {}, "x", 5])
async def test_a_call_behind_a_message_with_odd_calls(serve, calls: object) -> None:
    """`null` and what is empty are absent; anything else that is no list of calls is refused."""
    items = [
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "2"},
    ]
    async with serve() as served:
        reply = await served.client.post("/v1/responses", json={"model": "scripted", "input": items})
    assert reply.status_code == (400 if calls else 200), reply.text


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"content-type": "application/JSON"}, b'{"model": "scripted", "messages": [{"role": "user", "content": "\\ud800"}]}'),
        (JSON, json.dumps(ROUTES["/v1/chat/completions"]).encode("utf-16")),
        (JSON, json.dumps(ROUTES["/v1/chat/completions"]).encode("utf-16-le")),
        (JSON, b'{"model": "scripted", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}'),
    ],
)
async def test_half_a_surrogate_pair_has_no_way_in(serve, headers: dict, content: bytes) -> None:
    async with serve() as served:
        reply = await served.client.post("/v1/chat/completions", content=content, headers=headers)
    assert reply.status_code == 400, reply.text


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/tokenize"]
)
@pytest.mark.parametrize(
    "variables",
    [
        {"padding": "max_length", "max_length": 10**9},
        {"chat_template": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"},
        *({name: True} for name in ("tokenize", "tools", "messages", "conversation", "return_tensors", "tokenizer_kwargs", "self")),
    ],
)  # fmt: skip
async def test_variables_of_a_template_are_no_arguments_of_its_renderer(serve, path: str, variables: dict) -> None:
    """They are handed on together by vLLM: a prompt was padded until memory ended, and a template of the client was run."""
    body = {"messages": USER} if path == "/tokenize" else ROUTES.get(path, ROUTES["/v1/messages"])
    async with serve() as served:
        reply = await served.client.post(path, json={**body, "chat_template_kwargs": variables})
        assert reply.status_code == 400, reply.text
        assert "chat_template_kwargs: `" in reply.json()["error"]["message"]
        own = {"enable_thinking": False, "documents": [], "reasoning_effort": "low", "bos_token": "x", "depth": {"a": [1]}}
        assert (await served.client.post(path, json={**body, "chat_template_kwargs": own})).status_code == 200
