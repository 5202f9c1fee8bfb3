"""Anthropic's Messages API: bodies, replies, errors and counts. Replies are read with the classes of the official client."""

import asyncio
from typing import Any

import httpx
import pytest
from anthropic.types import Message, MessageTokensCount
from anthropic.types.shared import ErrorResponse

USER = [{"role": "user", "content": "What is 17 + 25?"}]
OK = {"model": "scripted@direct", "max_tokens": 64, "messages": USER}
TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
CALL = 'I look. <tool_call>{"name": "look", "arguments": {"at": "sky"}}</tool_call>'

pytestmark = pytest.mark.anyio


async def create(served, path: str = "/v1/messages", **fields: Any) -> httpx.Response:
    """Send a body with these fields."""
    return await served.client.post(path, json={**OK, **fields})


def prompt(served) -> str:
    """The prompt of the last branch."""
    return served.engine.branches[-1].prompt.text


async def test_a_message(serve) -> None:
    """The client's class reads it; every token of the prompt and the answer is counted; the `ponder` object is beside them."""
    async with serve(["It is 42."]) as served:
        response = await create(served)
    message = Message.model_validate(response.json())
    assert message.id == f"msg_{response.headers['request-id']}"
    assert [block.model_dump(exclude_none=True) for block in message.content] == [{"type": "text", "text": "It is 42."}]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 3)
    assert (message.usage.cache_read_input_tokens, message.usage.cache_creation_input_tokens) == (0, 0)
    assert response.json()["ponder"]["strategy"] == "direct"
    assert response.json()["ponder"]["notes"] == []


async def test_the_prompt_has_all_that_was_said(serve) -> None:
    """System prompts first, wherever they stand; results of tools before what the user says; no progress of earlier searches."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}}]},
        {"role": "system", "content": "Be kind."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "3 candidates", "signature": "ponder.search"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {"query": "sky"}},
                {"type": "web_search_tool_result", "tool_use_id": "1", "content": []},
                {"type": "text", "text": "I look.", "citations": None},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Well?"},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "cloudy"}],
                    "is_error": True,
                },
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A page"}, "title": "T"},
            ],
        },
    ]
    system = [{"type": "text", "text": "x-anthropic-billing-header: 1"}, {"type": "text", "text": "Be brief."}]
    async with serve() as served:
        response = await create(served, system=system, messages=messages, tools=[TOOL])
        said = prompt(served)
    assert response.json()["ponder"]["notes"] == []
    assert said.splitlines() == [
        "system: Be brief.", "", "Be kind.", "user: Look", "assistant: I look.", "tool: Error: cloudy", "user: Well?T", "A page",
        "assistant:",
    ]  # fmt: skip


async def test_thinking_of_a_model_is_sent_back_to_it(serve) -> None:
    thought = {"type": "thinking", "thinking": "1 and 1", "signature": "ponder.model"}
    messages = [*USER, {"role": "assistant", "content": [thought, {"type": "text", "text": "2"}]}, *USER]
    async with serve() as served:
        await create(served, messages=messages)
        [_, said, _] = served.engine.branches[-1].prompt.request["messages"]
    assert said["reasoning"] == "1 and 1"


async def test_the_answer_continues_a_last_message_of_the_assistant(serve) -> None:
    async with serve(["42."]) as served:
        await create(served, messages=[*USER, {"role": "assistant", "content": "It is "}])
        body = served.engine.branches[-1].prompt.request
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


async def test_tools(serve) -> None:
    """A call is a block; the caller's schema goes to the engine."""
    async with serve([CALL]) as served:
        response = await create(served, tools=[{**TOOL, "cache_control": None}], tool_choice={"type": "any"})
        body = served.engine.branches[-1].prompt.request
    message = Message.model_validate(response.json())
    [call] = message.content
    assert (call.type, call.name, call.input) == ("tool_use", "look", {"at": "sky"})
    assert message.stop_reason == "tool_use"
    assert body["tools"][0]["function"]["parameters"] == TOOL["input_schema"]
    assert body["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
        ({"type": "tool", "name": "look"}, {"tool_choice": {"type": "function", "function": {"name": "look"}}}),
        ({"type": "none"}, {"tool_choice": "none"}),
    ],
)
async def test_the_choice_of_a_tool(serve, choice: dict[str, Any], expected: dict[str, Any]) -> None:
    async with serve([CALL]) as served:
        assert (await create(served, tools=[TOOL], tool_choice=choice)).status_code == 200
        body = served.engine.branches[-1].prompt.request
    assert expected.items() <= body.items()


async def test_tools_of_anthropics_servers_are_skipped_and_named(serve) -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    async with serve() as served:
        response = await create(served, tools=[search, TOOL])
        body = served.engine.branches[-1].prompt.request
    assert response.json()["ponder"]["notes"] == ["skipped tools: web_search_20250305; this server runs no tools"]
    assert [tool["function"]["name"] for tool in body["tools"]] == ["look"]


async def test_a_stop_sequence(serve) -> None:
    async with serve(["One. Two. Three."]) as served:
        message = Message.model_validate((await create(served, stop_sequences=["Two", "x"])).json())
    assert message.content[0].text == "One. "
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Two")


async def test_most_tokens(serve) -> None:
    async with serve(["One two three."]) as served:
        message = Message.model_validate((await create(served, max_tokens=2)).json())
    assert (message.content[0].text, message.stop_reason) == ("One two", "max_tokens")


async def test_thinking_sets_the_budget_and_shows_the_search(serve) -> None:
    """Without `thinking` the first block is the answer, as clients expect."""
    vote = {"model": "scripted@self_consistency"}
    async with serve() as served:
        plain = Message.model_validate((await create(served, **vote)).json())
        thought = await create(served, **vote, thinking={"type": "enabled", "budget_tokens": 1024})
        hidden = await create(served, **vote, thinking={"type": "adaptive", "display": "omitted"})
        silent = await create(served, **vote, thinking={"type": "adaptive"}, ponder={"progress": "none"})
        dry = await create(served, **vote, thinking={"type": "enabled", "budget_tokens": 1024}, ponder={"dry_run": True})
    assert [block.type for block in plain.content] == ["text"]
    first, answer = Message.model_validate(thought.json()).content
    assert (first.type, first.signature, answer.type) == ("thinking", "ponder.search", "text")
    assert first.thinking
    for response in (hidden, silent):
        assert [block.type for block in Message.model_validate(response.json()).content] == ["text"]
    assert dry.json()["ponder"]["budget"]["tokens"] == 1024 + 64


@pytest.mark.parametrize(
    ("fields", "effort"),
    [({"output_config": {"effort": "max"}}, "high"), ({"thinking": {"type": "disabled"}}, "low"), ({}, "medium")],
)
async def test_effort(serve, monkeypatch, fields: dict[str, Any], effort: str) -> None:
    async with serve() as served:
        service, efforts = served.app.state.pools.first, []
        render = service.open
        monkeypatch.setattr(service, "open", lambda request, who: efforts.append(request.effort) or render(request, who))
        await create(served, **fields)
    assert efforts == [effort]


async def test_an_output_format_holds(serve) -> None:
    """The schema has a name for vLLM, which Anthropic's format does not have."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    async with serve(['{"a": 1}']) as served:
        response = await create(served, output_config={"format": {"type": "json_schema", "schema": schema}})
        body = served.engine.branches[-1].prompt.request
    assert response.status_code == 200
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": schema}


ACCEPTED: list[dict[str, Any]] = [
    {"metadata": {"user_id": "me"}, "service_tier": "auto", "container": "c", "context_management": {"edits": []}},
    {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "system": None, "tools": [], "mcp_servers": [], "stop_sequences": []},
    {"cache_control": {"type": "ephemeral"}, "speed": "fast", "inference_geo": "eu", "thinking": {"type": "adaptive"}},
    {"messages": [{"role": "user", "content": [{"type": "search_result", "source": "s", "title": "t", "content": []}]}]},
]


@pytest.mark.parametrize("body", ACCEPTED, ids=", ".join)
async def test_what_clients_send_is_served(serve, body: dict[str, Any]) -> None:
    """With the headers of Anthropic's clients; nothing of it is named as unknown."""
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "a,b"}
    async with serve() as served:
        response = await served.client.post("/v1/messages?beta=true", json={**OK, **body}, headers=headers)
    assert response.status_code == 200, response.text
    assert response.json()["ponder"]["notes"] == []


async def test_a_message_of_a_reply_is_accepted_back(serve) -> None:
    """As the client writes it, and as the reply has it."""
    async with serve([CALL]) as served:
        reply = (await create(served, tools=[TOOL])).json()
        for said in (reply, Message.model_validate(reply).model_dump()):
            said["content"][0].pop("parsed_output", None)
            result = {"type": "tool_result", "tool_use_id": said["content"][0]["id"]}
            response = await create(served, messages=[*USER, said, {"role": "user", "content": [result]}], tools=[TOOL])
            assert response.status_code == 200, response.text
            assert response.json()["ponder"]["notes"] == []


async def test_a_field_that_nobody_knows_is_named(serve) -> None:
    strange = {"colour": 1, "messages": [{**USER[0], "mood": "good"}]}
    async with serve() as served:
        response = await create(served, **strange)
    async with serve(strict_fields=True) as served:
        refused = await create(served, **strange)
    assert response.json()["ponder"]["notes"] == ["ignored fields: colour, messages.0.mood"]
    assert response.headers["x-ponder-ignored-fields"] == "colour, messages.0.mood"
    assert refused.status_code == 400


@pytest.mark.parametrize("fields", [{"model": "scripted"}, {"ponder": {"strategy": "best_of_n"}}], ids=str)
async def test_a_strategy_by_header_or_body(serve, fields: dict[str, Any]) -> None:
    async with serve() as served:
        headers = {"X-Ponder-Strategy": "best_of_n"} if "ponder" not in fields else {}
        response = await served.client.post("/v1/messages", json={**OK, **fields}, headers=headers)
    assert response.json()["ponder"]["strategy"] == "best_of_n"


async def test_tokens_are_counted_as_they_are_rendered(serve) -> None:
    """With system and tools; the same number as the reply's usage."""
    fields = {"system": "Be brief.", "tools": [TOOL]}
    async with serve() as served:
        usage = (await create(served, **fields)).json()["usage"]
        body = {"model": "scripted", "messages": USER, **fields}
        response = await served.client.post("/v1/messages/count_tokens", json=body)
        generated = len(served.engine.branches)
    count = MessageTokensCount.model_validate(response.json())
    assert count.input_tokens == usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert generated == 1


REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
    ({"model": "nobody"}, 404, "not_found_error", "nobody"),
    ({"messages": []}, 400, "invalid_request_error", "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, 400, "invalid_request_error", "messages.0.content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "invalid_request_error", "messages.0.content"),
    ({"tools": [{"name": "look"}]}, 400, "invalid_request_error", "tools.0"),
    ({"tools": [{**TOOL, "input_schema": {"type": "array"}}]}, 400, "invalid_request_error", "tools.0.input_schema"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "sing"}}, 400, "invalid_request_error", "sing"),
    ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error", "there are no tools"),
    ({"thinking": {"type": "enabled"}}, 400, "invalid_request_error", "budget_tokens"),
    ({"mcp_servers": [{"type": "url", "url": "http://127.0.0.1:9"}]}, 400, "invalid_request_error", "mcp_servers"),
    ({"ponder": {"strategy": "magic"}}, 400, "invalid_request_error", "magic"),
    ({"stop_sequences": ["x"] * 17}, 400, "invalid_request_error", "stop_sequences"),
]


@pytest.mark.parametrize(("fields", "status", "kind", "words"), REFUSED, ids=lambda value: str(value)[:40])
async def test_what_is_wrong_is_refused_in_anthropics_shape(serve, fields, status: int, kind: str, words: str) -> None:
    async with serve() as served:
        response = await create(served, **fields)
    error = ErrorResponse.model_validate(response.json())
    assert (response.status_code, error.error.type) == (status, kind)
    assert words in error.error.message
    assert error.request_id == response.headers["request-id"]


async def test_a_thread_is_refused_so_that_clients_go_on_without(serve) -> None:
    """The official tool runner asks for a thread first, and sends the whole conversation where it reads this code."""
    async with serve() as served:
        response = await create(served, thread={"type": "create"})
    assert response.status_code == 400
    assert response.json()["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


async def test_a_picture_is_refused_by_the_models_ability(serve) -> None:
    """Its URL is never opened, also where a tool returned it."""
    image = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9/x.png"}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [image]}
    async with serve() as served:
        for block in (image, result):
            response = await create(served, messages=[{"role": "user", "content": [block]}])
            assert response.status_code == 400
            assert "cannot read image" in response.json()["error"]["message"]


async def test_errors_of_every_kind_have_anthropics_shape(serve) -> None:
    """Also those of the middleware, of a wrong method, of a full server and of a defect."""
    async with serve(api_keys="key", max_body_bytes=1024) as served:
        wrong = await create(served)
        large = await served.client.post("/v1/messages", json={**OK, "system": "x" * 2000}, headers={"x-api-key": "key"})
        post = await served.client.get("/v1/messages", headers={"x-api-key": "key"})
        junk = await served.client.post("/v1/messages", content=b"{", headers={"x-api-key": "key"})
    async with serve() as served:
        stranger = await served.client.post("/v1/messages", json=OK, headers={"host": "evil.example"})
        served.app.state.pools.first.open = None
        defect = await create(served)
    kinds = [
        (wrong, 401, "authentication_error"), (large, 413, "request_too_large"), (post, 405, "invalid_request_error"),
        (junk, 400, "invalid_request_error"), (stranger, 403, "permission_error"), (defect, 500, "api_error"),
    ]  # fmt: skip
    for response, status, kind in kinds:
        body = response.json()
        assert (response.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
        assert body["request_id"] == response.headers["x-request-id"]
        assert body["error"].keys() == {"type", "message"}


async def test_a_full_server(serve) -> None:
    """It says so by its type, with the server's own status."""
    wide = {"ponder": {"strategy": "best_of_n", "n": 4}}
    slow = {"seconds_per_token": 0.05, "max_branches": 4, "max_waiting_branches": 4}
    async with serve(["a b c d e f"], **slow) as served, asyncio.TaskGroup() as group:
        held = [group.create_task(create(served, **wide)) for _ in range(2)]
        await asyncio.sleep(0.05)
        full = await create(served)
        await asyncio.wait(held)
    assert (full.status_code, full.json()["error"]["type"]) == (503, "overloaded_error")
    assert full.headers["retry-after"]


async def test_a_dead_engine(serve) -> None:
    async with serve() as served:
        served.engine.die()
        response = await create(served)
    assert (response.status_code, response.json()["error"]["type"]) == (503, "api_error")
    assert response.headers["retry-after"]


@pytest.mark.parametrize("headers", [{"x-api-key": "key"}, {"Authorization": "Bearer key"}], ids=", ".join)
async def test_a_key_in_either_header(serve, headers: dict[str, str]) -> None:
    async with serve(api_keys="key") as served:
        response = await served.client.post("/v1/messages", json=OK, headers=headers)
        models = await served.client.get("/v1/models", headers=headers)
        wrong = await served.client.post("/v1/messages", json=OK, headers={"x-api-key": "other"})
    assert (response.status_code, models.status_code, wrong.status_code) == (200, 200, 401)
