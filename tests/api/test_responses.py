"""OpenAI's Responses API: whole and streamed replies. Every reply and every event is read with the classes of the SDK."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

pytestmark = pytest.mark.anyio

TOOL = {"type": "function", "name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}
CALL = '<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>'
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
DIRECT = {"strategy": "direct"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def ask(served, content: object = "What is 17 + 25?", **fields: object) -> httpx.Response:
    return await served.client.post("/v1/responses", json={"model": "scripted", "input": content, **fields})


async def answer(served, content: object = "What is 17 + 25?", **fields: object) -> Response:
    reply = await ask(served, content, **fields)
    assert reply.status_code == 200, reply.text
    return Response.model_validate(reply.json(), strict=True)


def events(text: str) -> list[Any]:
    """The events of a stream, in order, numbered from 0; each has its type before its data."""
    blocks = [block.split("\n") for block in text.strip().split("\n\n") if block.startswith("event: ")]
    read = [EVENT.validate_python(json.loads(data.removeprefix("data: "))) for _, data in blocks]
    assert [kind.removeprefix("event: ") for kind, _ in blocks] == [one.type for one in read]
    return read


async def test_a_text_is_answered(serve) -> None:
    async with serve(["It is 42."]) as served:
        raw = await ask(served, metadata={"a": "b"}, instructions="Be brief.", temperature=0.5, ponder=DIRECT)
    response = Response.model_validate(raw.json(), strict=True)
    assert (response.status, response.output_text) == ("completed", "It is 42.")
    assert (response.metadata, response.instructions, response.temperature) == ({"a": "b"}, "Be brief.", 0.5)
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert raw.json()["ponder"]["strategy"] == "direct"
    assert raw.headers["x-ponder-strategy"] == "direct"
    assert served.engine.branches[0].prompt.text.startswith("system: Be brief.")


@pytest.mark.parametrize(
    "content",
    [
        [{"role": "user", "content": "Hi"}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {
                "type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": "final_answer",
                "content": [
                    {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "No."},
                ],
            },
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}", "status": "completed"},
            {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "a tree"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "a house"}]},
        ],
    ],
)  # fmt: skip
async def test_items_are_a_conversation(serve, content: list[dict[str, Any]]) -> None:
    """Nothing of what the SDK returns is unknown when it comes back."""
    async with serve() as served:
        reply = await ask(served, content)
    assert reply.status_code == 200, reply.text
    assert reply.json()["ponder"]["notes"] == []


async def test_other_tools_and_items_are_left_out_and_named(serve) -> None:
    """Coding agents send them with every request."""
    others = [{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": [TOOL]}, {"type": "custom", "name": "c"}]
    items = [{"role": "user", "content": "Hi"}, {"type": "web_search_call", "id": "ws_1", "status": "completed"}]
    async with serve() as served:
        response = await ask(served, items, tools=[TOOL, *others, {"type": "mcp"}], tool_choice={"type": "web_search"})
    body = response.json()
    assert [tool.name for tool in Response.model_validate(body, strict=True).tools] == ["look"]  # type: ignore[union-attr]
    assert body["ponder"]["notes"] == [
        "tools that are not served were left out: web_search, namespace, custom, mcp",
        "items that are not served were left out: web_search_call",
        "tool choices that are not served were left out: tool_choice",
    ]


async def test_what_codex_sends_is_served(serve) -> None:
    body = {
        "client_metadata": {"a": "b"}, "include": ["reasoning.encrypted_content"], "instructions": "Be brief.",
        "parallel_tool_calls": False, "prompt_cache_key": "k", "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False, "stream": True, "tool_choice": "auto", "tools": [TOOL, {"type": "web_search"}],
        "text": {"verbosity": "medium"},
    }  # fmt: skip
    async with serve() as served:
        read = events((await ask(served, **body)).text)
    assert read[-1].type == "response.completed"


async def test_a_stream_has_all_events_in_order(serve) -> None:
    async with serve(["It is 42."]) as served:
        read = events(
            (await ask(served, ponder=DIRECT, stream=True, include=["message.output_text.logprobs"], top_logprobs=2)).text
        )
    assert [one.sequence_number for one in read] == list(range(len(read)))
    assert [one.type for one in read] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * 3, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert read[0].response.output == []
    assert "".join(one.delta for one in read[4:7]) == read[7].text == read[-1].response.output_text == "It is 42."
    assert [len(one.logprobs) for one in read[4:7]] == [1, 1, 1]
    assert len(read[-1].response.output[0].content[0].logprobs[0].top_logprobs) <= 2


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "look"}, "auto"])
async def test_tools_are_called(serve, choice: object) -> None:
    async with serve([CALL]) as served:
        response = await answer(served, tools=[TOOL], tool_choice=choice)
        read = events((await ask(served, tools=[TOOL], tool_choice=choice, stream=True)).text)
    [call] = response.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "look", {"at": 1})  # type: ignore[union-attr]
    kinds = [one.type for one in read]
    assert kinds[2] == "response.output_item.added"
    assert kinds[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    deltas = [one.delta for one in read if one.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == read[-3].arguments == read[-1].response.output[0].arguments


async def test_allowed_tools_and_the_format_reach_the_engine(serve) -> None:
    form = {"type": "json_schema", "name": "out", "schema": SCHEMA, "strict": True}
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]}
    async with serve(['{"a": 1}']) as served:
        response = await answer(served, text={"format": form, "verbosity": "low"})
        assert (await answer(served, tools=[TOOL], tool_choice=allowed)).status == "completed"
        assert (await answer(served, text={"format": {"type": "json_object"}})).status == "completed"
    assert response.text is not None
    assert response.text.format.model_dump(by_alias=True, exclude_none=True) == form  # type: ignore[union-attr]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_answer_is_incomplete(serve, stream: bool) -> None:
    async with serve(["one two three four"]) as served:
        reply = await ask(served, max_output_tokens=2, stream=stream)
    response = events(reply.text)[-1].response if stream else Response.model_validate(reply.json())
    assert (response.status, response.output_text) == ("incomplete", "one two")
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[-1].status == "incomplete"


@pytest.mark.parametrize("progress", ["reasoning", "comments", "none"])
async def test_a_search_tells_its_progress(serve, progress: str) -> None:
    """As the summary of a reasoning item, as comments, or not at all; the answer comes behind it."""
    options = {"strategy": "self_consistency", "n": 4, "progress": progress}
    async with serve() as served:
        text = (await ask(served, stream=True, ponder=options)).text
    read = events(text)
    summaries = [one for one in read if one.type == "response.reasoning_summary_text.delta"]
    assert bool(summaries) == (progress == "reasoning")
    assert (": " in "".join(line for line in text.split("\n") if line.startswith(":"))) == (progress == "comments")
    final = read[-1].response
    assert [item.type for item in final.output] == ["reasoning", "message"][progress != "reasoning" :]
    assert "42" in final.output_text
    assert final.usage.output_tokens_details.reasoning_tokens > 0


async def test_a_stream_tells_of_nodes_on_request(serve) -> None:
    """In events of a type that all clients know: the plan first, then the nodes as they come and change."""
    options = {"strategy": "best_of_n", "n": 3}
    async with serve() as served:
        shown = events((await ask(served, stream=True, ponder={**options, "show_nodes": True})).text)
        plain = events((await ask(served, stream=True, ponder=options)).text)
        refused = await ask(served, ponder={**options, "show_nodes": True})
    known = [one.ponder for one in shown if one.type == "response.in_progress"]
    assert known[0]["strategy"] == "best_of_n"
    assert {node["id"] for told in known[1:] for node in told["nodes"]} == {0, 1, 2}
    assert [one.sequence_number for one in shown] == list(range(len(shown)))
    assert [one.type for one in plain].count("response.in_progress") == 1
    assert refused.status_code == 400


@pytest.mark.parametrize("how", ["body", "header", "model"])
async def test_the_strategy_is_chosen_as_in_chat(serve, how: str) -> None:
    async with serve() as served:
        body = {"model": "scripted@self_consistency" if how == "model" else "scripted", "input": "What is 17 + 25?"}
        if how == "body":
            body |= {"ponder": {"strategy": "self_consistency", "n": 3}}  # type: ignore[dict-item]
        headers = {"X-Ponder-Strategy": "self_consistency"} if how == "header" else {}
        reply = (await served.client.post("/v1/responses", json=body, headers=headers)).json()
    assert reply["ponder"]["strategy"] == "self_consistency"


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"input": []}, "input"),
        ({"input": [{"role": "user"}]}, "input.0"),
        ({"input": [{"type": "function_call", "name": "look", "arguments": "[]"}]}, "input.0.tool_calls.0.function.arguments"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input.0.content"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"tools": [{"type": "function", "name": "?"}]}, "tools.0.name"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True, "store": False}, "background"),
        ({"ponder": {"strategy": "magic"}}, "ponder.strategy"),
        ({"ponder": {"strategy": "self_consistency", "n": -1}}, "ponder.n"),
    ],
)
async def test_what_is_wrong_is_named_as_this_api_names_it(serve, fields: dict[str, Any], parameter: str) -> None:
    async with serve() as served:
        reply = await ask(served, **{"content": fields.pop("input", "Hi"), **fields})
    assert reply.status_code == 400, reply.text
    assert (reply.json()["error"]["param"] or "").startswith(parameter), reply.json()


async def test_strict_fields_refuse_what_nobody_knows(serve) -> None:
    async with serve(strict_fields=True) as served:
        refused = await ask(served, colour=1)
    async with serve() as served:
        ignored = await ask(served, [{"role": "user", "content": "Hi", "mood": "good"}], colour=1)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "colour")
    assert ignored.json()["ponder"]["notes"] == ["ignored fields: colour, input.0.mood"]


async def test_a_stream_ends_with_what_failed(serve) -> None:
    """The HTTP status was sent before, so the error is an event."""
    async with serve(["It is 42."], seconds_per_token=0.2) as served:
        streaming = asyncio.create_task(ask(served, stream=True))
        while not served.engine.running:  # noqa: ASYNC110 - an engine has no event for it
            await asyncio.sleep(0.01)
        served.engine.die()
        read = events((await streaming).text)
    assert read[-1].type == "response.failed"
    assert read[-1].response.error.code == "server_error"


async def test_half_a_surrogate_pair_is_refused(serve) -> None:
    body = '{"model": "scripted", "input": "Hi", "tools": [{"type": "function", "name": "look", "x": "\\ud800"}]}'
    async with serve() as served:
        reply = await served.client.post("/v1/responses", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
