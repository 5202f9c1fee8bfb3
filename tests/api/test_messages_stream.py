"""Streams of Anthropic's Messages API, read with the classes of the official client."""

import itertools
import json
from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

OK = {
    "model": "scripted@direct",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "What is 17 + 25?"}],
    "stream": True,
}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
CALL = '<tool_call>{"name": "look", "arguments": {"at": "sky"}}</tool_call>'
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)

pytestmark = pytest.mark.anyio


async def stream(served, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream; each is named by its type, and the client's classes can read it."""
    response = await served.client.post("/v1/messages", json={**OK, **fields})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.strip().split("\n\n"):
        if block.startswith(":"):
            events.append({"type": "comment", "text": block[2:]})
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] not in ("ping", "error"):
            EVENT.validate_python(event)
        events.append(event)
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of events and of their deltas, repeated ones once."""
    names = [event["delta"]["type"] if event["type"] == "content_block_delta" else event["type"] for event in events]
    return [name for name, _ in itertools.groupby(names)]


def written(events: list[dict[str, Any]], name: str) -> str:
    """What the deltas of one type say together."""
    field = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[name]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta[field] for delta in deltas if delta["type"] == name)


async def test_a_stream_of_text(serve) -> None:
    """All events in Anthropic's order; tokens as they come; the usage and the `ponder` object at the end."""
    async with serve(["It is 42."]) as served:
        events = await stream(served)
    assert kinds(events) == [
        "message_start", "ping", "content_block_start", "text_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert written(events, "text_delta") == "It is 42."
    assert len(events) == 6 + 3
    start, end = events[0]["message"], events[-2]
    assert start["content"] == []
    assert (start["usage"]["input_tokens"], start["usage"]["output_tokens"]) == (7, 0)
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == (7, 3)
    assert end["ponder"]["strategy"] == "direct"


async def test_a_stream_says_what_the_whole_message_says(serve) -> None:
    """For each way to end."""
    ways: list[dict[str, Any]] = [{}, {"max_tokens": 2}, {"stop_sequences": ["is"]}, {"model": "scripted@best_of_n"}]
    for fields in ways:
        async with serve(["It is 42."]) as served:
            events = await stream(served, **fields)
        async with serve(["It is 42."]) as served:
            whole = (await served.client.post("/v1/messages", json={**OK, **fields, "stream": False})).json()
        assert written(events, "text_delta") == whole["content"][0]["text"]
        assert events[-2]["delta"] == {name: whole[name] for name in ("stop_reason", "stop_sequence")}
        assert events[-2]["usage"] == whole["usage"]


async def test_a_call(serve) -> None:
    """Its name with the start of the block, its arguments as deltas."""
    async with serve([CALL + CALL.replace("sky", "sea")]) as served:
        events = await stream(served, tools=[TOOL])
    starts = [event for event in events if event["type"] == "content_block_start"]
    assert [(one["index"], one["content_block"]["name"], one["content_block"]["input"]) for one in starts] == [
        (0, "look", {}),
        (1, "look", {}),
    ]
    assert written(events, "input_json_delta") == '{"at": "sky"}{"at": "sea"}'
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_the_progress_of_a_search_is_thinking_where_it_is_asked_for(serve) -> None:
    vote = {"model": "scripted@self_consistency"}
    async with serve() as served:
        events = await stream(served, **vote, thinking={"type": "adaptive"})
        plain = await stream(served, **vote)
        comments = await stream(served, **vote, ponder={"progress": "comments"})
    assert kinds(events) == [
        "message_start", "ping", "content_block_start", "thinking_delta", "signature_delta", "content_block_stop",
        "content_block_start", "text_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1]
    assert [event["delta"]["signature"] for event in events if "signature" in event.get("delta", {})] == ["ponder.search"]
    for one in (plain, comments):
        assert "thinking_delta" not in kinds(one)
        assert ("comment" in kinds(one)) == (one is comments)


async def test_nodes_come_with_pings(serve) -> None:
    """Clients read no ping, so those that do not ask for nodes are not disturbed."""
    async with serve() as served:
        events = await stream(served, model="scripted@best_of_n", ponder={"show_nodes": True})
    nodes = [node for event in events if event["type"] == "ping" for node in event.get("ponder", {}).get("nodes", [])]
    assert nodes
    assert events[0]["ponder"]["strategy"] == "best_of_n"


async def test_an_empty_answer_has_a_block(serve) -> None:
    async with serve([""]) as served:
        events = await stream(served)
        whole = (await served.client.post("/v1/messages", json={**OK, "stream": False})).json()
    assert kinds(events)[2:4] == ["content_block_start", "content_block_stop"]
    assert whole["content"] == [{"type": "text", "text": ""}]


async def test_an_error_in_a_stream(serve) -> None:
    """It is the last event, in Anthropic's shape."""
    async with serve(["a b c d e f"], seconds_per_token=0.01) as served:
        script = served.engine._check
        served.engine._check = lambda: served.engine.die() or script() if served.engine.branches else None
        events = await stream(served)
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["type"] == "api_error"
    assert events[-1]["request_id"]


async def test_silence_is_filled_with_pings(serve) -> None:
    async with serve(["a"], seconds_per_token=0.5, keep_alive_seconds=0.1) as served:
        events = await stream(served)
    assert [event["type"] for event in events].count("ping") > 1
