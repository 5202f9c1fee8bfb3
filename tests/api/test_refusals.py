"""Wrong requests get a clear 4xx that names the parameter, and the server goes on serving."""

import json
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

USER = [{"role": "user", "content": "What is 1 + 1?"}]
OK = {"model": "scripted", "messages": USER}

WRONG: list[tuple[str, dict[str, Any], str | None]] = [
    ("model missing", {"messages": USER}, "model"),
    ("messages missing", {"model": "scripted"}, "messages"),
    ("messages empty", {**OK, "messages": []}, "messages"),
    ("content missing", {**OK, "messages": [{"role": "user"}]}, "messages.0"),
    ("unknown role", {**OK, "messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
    ("an image", {**OK, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}, None),
    ("n = 0", {**OK, "n": 0}, "n"),
    ("n too large", {**OK, "n": 65}, "n"),
    ("n is text", {**OK, "n": "2"}, "n"),
    ("temperature negative", {**OK, "temperature": -1}, "temperature"),
    ("temperature of a sampled strategy", {**OK, "temperature": 0, "ponder": {"strategy": "best_of_n"}}, "temperature"),
    ("max_tokens = 0", {**OK, "max_tokens": 0}, "max_tokens"),
    ("max_tokens negative", {**OK, "max_completion_tokens": -5}, "max_completion_tokens"),
    ("unknown strategy", {**OK, "ponder": {"strategy": "wish"}}, "ponder.strategy"),
    ("unknown verifier", {**OK, "ponder": {"strategy": "best_of_n", "verifier": "oracle"}}, "ponder.verifier"),
    ("unknown parameter", {**OK, "ponder": {"strategy": "best_of_n", "width": 3}}, "ponder.width"),
    ("another strategy's parameter", {**OK, "ponder": {"strategy": "direct", "n": 3}}, "ponder.n"),
    ("parameter without strategy", {**OK, "ponder": {"n": 4}}, "ponder.n"),
    ("strategy's n = 0", {**OK, "ponder": {"strategy": "best_of_n", "n": 0}}, "ponder.n"),
    ("strategy's n above the server's", {**OK, "ponder": {"strategy": "best_of_n", "n": 65}}, "ponder.n"),
    ("more choices than candidates", {**OK, "n": 5, "ponder": {"strategy": "best_of_n", "n": 4}}, "ponder.n"),
    ("budget = 0", {**OK, "ponder": {"budget": {"tokens": 0}}}, "ponder.budget.tokens"),
    ("budget negative", {**OK, "ponder": {"budget": {"seconds": -1}}}, "ponder.budget.seconds"),
    ("budget absurd", {**OK, "ponder": {"budget": {"tokens": 10**30}}}, "ponder.budget.tokens"),
    ("unknown budget", {**OK, "ponder": {"budget": {"euros": 1}}}, "ponder.budget.euros"),
    ("unknown answer kind", {**OK, "ponder": {"answer": "poem"}}, "ponder.answer"),
    ("a vote on open answers", {**OK, "messages": [{"role": "user", "content": "Write a poem."}],
                                "ponder": {"strategy": "self_consistency"}}, "ponder.answer"),
    ("a majority of open answers", {**OK, "messages": [{"role": "user", "content": "Write a poem."}],
                                    "ponder": {"strategy": "best_of_n", "verifier": "majority"}}, "ponder.verifier"),
    ("a beam that cannot be divided", {**OK, "ponder": {"strategy": "beam_search", "n": 6, "expand": 4}}, "ponder.expand"),
    ("a beam wider than the server allows", {**OK, "ponder": {"strategy": "beam_search", "n": 128}}, "ponder.n"),
    ("more workers than the server allows", {**OK, "ponder": {"strategy": "mcts", "workers": 64}}, "ponder.workers"),
    ("a tree without end", {**OK, "ponder": {"strategy": "mcts", "iterations": 1024, "expand": 16, "workers": 1}}, "ponder.iterations"),
    ("an empty separator", {**OK, "ponder": {"strategy": "beam_search", "separator": ""}}, "ponder.separator"),
    ("a majority of steps", {**OK, "ponder": {"strategy": "beam_search", "verifier": "majority"}}, "ponder.verifier"),
    ("a broken pattern", {**OK, "ponder": {"strategy": "best_of_n", "verifier": {"regex": "("}}}, "ponder.verifier"),
    ("a reward model by its address", {**OK, "ponder": {"strategy": "best_of_n", "verifier": {"reward_model": "http://x/"}}},
     "ponder.verifier"),
    ("a judge that is not there", {**OK, "ponder": {"strategy": "beam_search", "verifier": {"adapter": "judge"}}}, "ponder"),
    ("nodes without a stream", {**OK, "ponder": {"show_nodes": True}}, None),
    ("more votes than letters", {**OK, "ponder": {"strategy": "tree_of_thoughts", "evaluate": "vote", "breadth": 8}}, "ponder.samples"),
    ("schema missing", {**OK, "response_format": {"type": "json_schema"}}, "response_format"),
    ("a field that is refused", {**OK, "use_beam_search": True}, "use_beam_search"),
    ("arguments that are no object", {**OK, "messages": [*USER, {"role": "assistant", "tool_calls": [
        {"id": "1", "function": {"name": "f", "arguments": "[1]"}}]}]}, "messages.1.tool_calls.0.function.arguments"),
    ("top_logprobs without logprobs", {**OK, "top_logprobs": 2}, None),
    ("tool_choice without tools", {**OK, "tool_choice": "required"}, None),
    ("tool_choice names no tool", {**OK, "tools": [{"type": "function", "function": {"name": "a"}}],
                                   "tool_choice": {"type": "function", "function": {"name": "b"}}}, None),
    ("logit_bias out of range", {**OK, "logit_bias": {"1": 1000}}, "logit_bias.1"),
    ("too many stop strings", {**OK, "stop": ["x"] * 17}, "stop"),
    ("empty stop string", {**OK, "stop": ""}, "stop"),
    ("prompt longer than the context", {**OK, "messages": [{"role": "user", "content": "word " * 3000}]}, "messages"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "parameter"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_a_wrong_request_is_refused_by_name(serve, body: dict[str, Any], parameter: str | None) -> None:
    """The reply is a 400 in OpenAI's shape with the parameter at fault, if it is one. The next request is served."""
    async with serve() as served:
        response = await served.client.post("/v1/chat/completions", json=body)
        after = await served.client.post("/v1/chat/completions", json=OK)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    if parameter is not None:
        assert (error["param"] or "").startswith(parameter), error
    assert after.status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b'{"model": "scripted", "messages": [{"role": "user", "content": "\xff\xfe"}]}', 400),
        (b"[" * 100_000, 400),
        (b'{"model": "scripted", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}', 400),
        (b'{"model": "scripted", "n": 1e400, "messages": [{"role": "user", "content": "x"}]}', 400),
        (b'{"model": "scripted", "seed": ' + b"9" * 5000 + b', "messages": [{"role": "user", "content": "x"}]}', 400),
    ],
    ids=["empty", "cut", "null", "list", "string", "bad utf-8", "deep", "nan", "infinite", "long integer"],
)
async def test_a_malformed_body_is_refused(serve, content: bytes, status: int) -> None:
    """The reply has OpenAI's error shape too."""
    async with serve() as served:
        response = await served.client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
    assert response.status_code == status
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("declares_length", [True, False])
async def test_a_huge_body_is_refused_before_it_is_read(serve, declares_length: bool) -> None:
    """The reply is a 413, whether the length is declared or counted."""
    read = 0

    async def body():
        nonlocal read
        for _ in range(1600):
            read += 65_536
            yield b"x" * 65_536

    headers = {"content-length": str(1600 * 65_536)} if declares_length else {}
    async with serve() as served:
        response = await served.client.post("/v1/chat/completions", content=body(), headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"
    assert read < 8_000_000


async def test_unknown_models_paths_and_methods(serve) -> None:
    """404 and 405 have OpenAI's error shape too."""
    async with serve() as served:
        model = await served.client.post("/v1/chat/completions", json={**OK, "model": "gpt-9"})
        strategy_of_model = await served.client.post("/v1/chat/completions", json={**OK, "model": "scripted@wish"})
        path = await served.client.get("/v2/everything")
        strategy = await served.client.post("/v1/wish/chat/completions", json=OK)
        method = await served.client.get("/v1/chat/completions")
    assert (model.status_code, model.json()["error"]["code"]) == (404, "model_not_found")
    assert strategy_of_model.status_code == 404
    assert path.status_code == strategy.status_code == 404
    assert method.status_code == 405
    assert all(one.json()["error"]["message"] for one in (path, strategy, method))


async def test_an_unexpected_error_tells_nothing(serve, caplog: pytest.LogCaptureFixture) -> None:
    """A defect of the server is a 500 without the error's message, which is only logged."""

    def broken(prompt: str, serial: int) -> str:
        message = "secret detail"
        raise RuntimeError(message)

    async with serve(broken) as served:
        response = await served.chat()
    assert response.status_code == 500
    assert "secret" not in response.text
    assert json.loads(response.text)["error"]["code"] == "internal_error"


async def test_an_unexpected_error_has_what_every_reply_has(serve) -> None:
    """An id, leave for the web page that asked to read it, and the shape of the API that was called."""

    def broken(prompt: str, serial: int) -> str:
        raise RuntimeError

    async with serve(broken, cors_origins="https://chat.example") as served:
        headers = {"Origin": "https://chat.example", "X-Request-Id": "mine"}
        response = await served.client.post("/v1/chat/completions", json=OK, headers=headers)
        anthropic = await served.client.post("/v1/messages", json={**OK, "max_tokens": 8}, headers=headers)
    for one in (response, anthropic):
        assert one.status_code == 500
        assert one.headers["x-request-id"] == "mine"
        assert one.headers["access-control-allow-origin"] == "https://chat.example"
    assert anthropic.json()["error"]["type"] == "api_error"


@pytest.mark.parametrize("depth", [40, 900, *range(930, 1000, 5)])
@pytest.mark.parametrize("field", ["tools", "response_format", "chat_template_kwargs"])
async def test_nesting_of_any_depth_is_refused(serve, depth: int, field: str) -> None:
    """Python's limit of recursion is met at another depth by each part that reads the body."""
    nested = '{"a":' * depth + "1" + "}" * depth
    value = {
        "tools": '[{"type":"function","function":{"name":"f","parameters":%s}}]',
        "response_format": '{"type":"json_schema","json_schema":{"name":"a","schema":%s}}',
        "chat_template_kwargs": "%s",
    }[field]
    body = json.dumps(OK)[:-1] + f', "{field}": ' + value % nested + "}"
    async with serve() as served:
        response = await served.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400


async def test_keys_are_required_when_there_are_any(serve) -> None:
    """The reply is a 401 without a key, with a wrong one, or with one for another purpose. Metrics need a key for administration."""
    async with serve(api_keys="alice,bob", admin_keys="root") as served:
        bare = await served.client.post("/v1/chat/completions", json=OK)
        wrong = await served.client.get("/v1/models", headers={"Authorization": "Bearer root"})
        right = await served.client.get("/v1/models", headers={"Authorization": "Bearer bob"})
        metrics = await served.client.get("/metrics", headers={"Authorization": "Bearer bob"})
        metrics_by_root = await served.client.get("/metrics", headers={"Authorization": "Bearer root"})
        health = await served.client.get("/health")
    assert bare.status_code == wrong.status_code == metrics.status_code == 401
    assert bare.json()["error"]["code"] == "invalid_api_key"
    assert bare.headers["www-authenticate"] == "Bearer"
    assert right.status_code == metrics_by_root.status_code == health.status_code == 200


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost:8000", True), ("127.0.0.1", True), ("127.1.2.3:1", True), ("[::1]:8000", True), ("ponder.localhost", True),
        ("evil.example:8000", False), ("127.0.0.1.evil.example", False), ("10.0.0.1:8000", False), ("[::2]", False), ("", False),
    ],
)  # fmt: skip
async def test_without_keys_the_server_answers_to_its_own_names_only(serve, host: str, is_ours: bool) -> None:
    """A foreign page may have a name that points to this machine, and would be taken for a page of this server."""
    async with serve() as served:
        for path in ("/v1/traces", "/metrics", "/playground"):
            response = await served.client.get(path, headers={"Host": host, "Sec-Fetch-Site": "same-origin"})
            assert response.status_code == (200 if is_ours else 403)
    async with serve(api_keys=("alice",)) as served:
        response = await served.client.get("/v1/models", headers={"Host": host, "Authorization": "Bearer alice"})
    assert response.status_code == 200


async def test_what_can_never_be_admitted_is_a_400(serve) -> None:
    """In the background too: to try again would not help."""
    wide = {"model": "scripted", "ponder": {"strategy": "best_of_n", "n": 5}}
    async with serve(max_branches_per_key=4) as served:
        whole = await served.chat(**wide)
        queued = await served.client.post("/v1/responses", json={**wide, "input": "Hi", "background": True})
        prompts = await served.client.post("/v1/completions", json={"model": "scripted", "prompt": ["a"] * 5})
        served_still = await served.chat(ponder={"strategy": "best_of_n", "n": 4})
    assert [reply.status_code for reply in (whole, queued, prompts, served_still)] == [400, 400, 400, 200]
    assert whole.json()["error"]["param"] == "ponder.n"
    assert "`max_branches_per_key`" in whole.json()["error"]["message"]


async def test_a_full_server_says_when_to_come_back(serve) -> None:
    """The reply is a 503 if all keys together fill the server and a 429 if one key does, both with Retry-After."""
    slow = {"seconds_per_token": 0.05, "max_branches": 4, "max_waiting_branches": 4}
    import asyncio

    wide = {"ponder": {"strategy": "best_of_n", "n": 4}}
    async with serve(["a b c d e f"], **slow) as served, asyncio.TaskGroup() as group:
        held = [group.create_task(served.chat(**wide)) for _ in range(2)]
        await asyncio.sleep(0.05)
        full = await served.chat()
        await asyncio.wait(held)
    assert full.status_code == 503
    assert int(full.headers["retry-after"]) >= 1
    async with serve(["a b c d e f"], max_branches_per_key=4, **slow) as served, asyncio.TaskGroup() as group:
        held = [group.create_task(served.chat(**wide))]
        await asyncio.sleep(0.05)
        greedy = await served.chat()
        await asyncio.wait(held)
    assert greedy.status_code == 429
    assert greedy.json()["error"]["type"] == "rate_limit_error"
