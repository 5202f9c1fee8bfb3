"""Tools over the scripted engine: which tools the model sees, which calls a reply has, and the former form of both."""

import json
from typing import Any

import pytest

from app.api.schemas import ChatRequest
from tests.api.test_chat import events

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
EMPTY = {"type": "object", "properties": {}}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "%s"}}</tool_call>'
TWO = CALL % "Rome" + CALL % "Oslo"
DIRECT = {"strategy": "direct"}
VOTE = {"strategy": "self_consistency", "n": 3}


def body(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields})


def streamed(text: str, field: str = "tool_calls") -> list[Any]:
    """The values of a field of all deltas."""
    deltas = [choice["delta"] for chunk in events(text) for choice in chunk["choices"]]
    return [delta[field] for delta in deltas if delta.get(field)]


def finish(text: str) -> str:
    return [c["finish_reason"] for chunk in events(text) for c in chunk["choices"] if c["finish_reason"]][-1]


@pytest.mark.parametrize("parameters", [{}, {"parameters": None}, {"parameters": {}}])
async def test_a_function_without_parameters_takes_an_empty_object(parameters: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {"name": "clock", **parameters}}
    assert body(tools=[tool]).for_engine()["tools"][0]["function"]["parameters"] == EMPTY


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": ["array", "null"]}])
async def test_parameters_that_are_no_object_are_refused(serve, schema: dict[str, Any]) -> None:
    """Arguments are always an object."""
    tool = {"type": "function", "function": {"name": "clock", "parameters": schema}}
    async with serve() as served:
        response = await served.chat(tools=[tool])
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tools.0.function.parameters"


@pytest.mark.parametrize("schema", [{"properties": {"a": {}}}, {"type": ["object", "null"], "properties": {"a": {}}}])
async def test_the_type_of_parameters_is_object_where_it_is_left_open(schema: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {"name": "clock", "parameters": schema}}
    assert body(tools=[tool]).for_engine()["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {"a": {}}}


async def test_the_patterns_of_all_tools_are_counted(serve) -> None:
    schema = {
        "type": "object",
        "properties": {f"p{number}": {"type": "string", "pattern": f"^{number}"} for number in range(60)},
    }
    tools = [
        {"type": "function", "function": {"name": name, "strict": strict, "parameters": schema}}
        for name, strict in (("a", True), ("b", False), ("c", True))
    ]
    async with serve() as served:
        assert (await served.chat(tools=tools[:2])).status_code == 200
        error = (await served.chat(tools=tools)).json()["error"]
    assert error["param"] == "tools.2.function.parameters"
    assert "more than 100 patterns" in error["message"]


UNIQUE = {"type": "object", "properties": {"cities": {"type": "array", "uniqueItems": True}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "clock"}}},
        {"tools": [{"type": "function", "function": {"name": "clock", "parameters": UNIQUE, "strict": True}}]},
    ],
    ids=["required", "named", "strict"],
)
async def test_a_schema_that_a_call_must_follow_and_could_not_is_refused(serve, fields: dict[str, Any]) -> None:
    """By the tool's field and the place in its schema. Where the model may call the tool as it likes, the schema is taken."""
    tools = [WEATHER, {"type": "function", "function": {"name": "clock", "parameters": UNIQUE}}]
    async with serve() as served:
        refused = await served.chat(**{"tools": tools, **fields})
        free = await served.chat(tools=tools)
        other = await served.chat(tools=tools, tool_choice={"type": "function", "function": {"name": "weather"}})
    error = refused.json()["error"]
    where = f"tools.{len(fields.get('tools', tools)) - 1}.function.parameters"
    assert (refused.status_code, error["param"]) == (400, where)
    assert error["message"].startswith(f"{where}: properties.cities: `uniqueItems`")
    assert (free.status_code, other.status_code) == (200, 200)


async def test_each_api_names_the_field_of_such_a_tool(serve) -> None:
    """At the place where its caller has written it, though tools that are not served are left out before."""
    wrong = {"type": "object", "properties": {"a": {"type": "strng"}}}
    search = {"type": "web_search_20250305", "name": "web_search"}
    calls = [
        ("/v1/chat/completions", {"functions": [{"name": "clock", "parameters": wrong}], "function_call": {"name": "clock"}}),
        ("/v1/responses", {"tools": [search, {"type": "function", "name": "clock", "parameters": wrong, "strict": True}]}),
        ("/v1/messages", {"tools": [search, {"name": "clock", "input_schema": wrong}], "tool_choice": {"type": "any"}}),
    ]
    question = {"messages": [{"role": "user", "content": "Hi"}], "input": "Hi", "max_tokens": 9, "model": "scripted"}
    async with serve() as served:
        errors = [(await served.client.post(path, json={**question, **fields})).json()["error"] for path, fields in calls]
    wheres = ["functions.0.parameters", "tools.1.parameters", "tools.1.input_schema"]
    for error, where in zip(errors, wheres, strict=True):
        assert error["message"].startswith(f"{where}: properties.a.type: a type is one of"), error
    assert [error.get("param") for error in errors[:2]] == wheres[:2]


async def test_all_tools_are_checked_where_a_grammar_holds_them_all(serve) -> None:
    """As the operator may choose."""
    tools = [WEATHER, {"type": "function", "function": {"name": "clock", "parameters": UNIQUE}}]
    async with serve(tool_strict_level="parameter") as served:
        refused, taken = await served.chat(tools=tools), await served.chat(tools=[WEATHER])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools.1.function.parameters")
    assert taken.status_code == 200


async def test_the_model_sees_only_the_tools_that_are_allowed() -> None:
    named = [{"type": "function", "function": {"name": "clock"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
    sent = body(tools=[WEATHER, CLOCK], tool_choice=choice).for_engine()
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["clock"]
    assert sent["tool_choice"] == "required"


@pytest.mark.parametrize("ponder", [DIRECT, VOTE], ids=["direct", "vote"])
async def test_a_stream_has_each_call_of_the_reply_once(serve, ponder: dict[str, Any]) -> None:
    """The deltas have the index, the id, the type, the name and the arguments, which together are those of the whole reply."""
    ask = {"tools": [WEATHER], "ponder": ponder}
    async with serve([TWO]) as served:
        whole = (await served.chat(**ask)).json()["choices"][0]
        stream = (await served.chat(stream=True, **ask)).text
    calls = [call for delta in streamed(stream) for call in delta]
    assert [{name: value for name, value in call.items() if name != "index"} for call in calls] == whole["message"][
        "tool_calls"
    ]
    assert [call["index"] for call in calls] == [0, 1]
    assert whole["finish_reason"] == finish(stream) == "tool_calls"


@pytest.mark.parametrize("ponder", [DIRECT, VOTE], ids=["direct", "vote"])
async def test_without_parallel_calls_a_reply_has_the_first_one(serve, ponder: dict[str, Any]) -> None:
    ask = {"tools": [WEATHER], "parallel_tool_calls": False, "ponder": ponder}
    async with serve([TWO]) as served:
        whole = (await served.chat(**ask)).json()["choices"][0]["message"]["tool_calls"]
        stream = [call for delta in streamed((await served.chat(stream=True, **ask)).text) for call in delta]
    assert [json.loads(call["function"]["arguments"]) for call in whole] == [{"city": "Rome"}]
    assert [call["index"] for call in stream] == [0]


async def test_a_reply_without_a_call_has_no_field_for_calls(serve) -> None:
    """As OpenAI's: `tool_calls` is absent, `refusal` is null, and content comes second."""
    async with serve(["Sunny."]) as served:
        message = (await served.chat(tools=[WEATHER], ponder=DIRECT)).json()["choices"][0]["message"]
    assert list(message.items()) == [("role", "assistant"), ("content", "Sunny."), ("refusal", None)]


async def test_a_call_that_was_cut_is_not_content(serve) -> None:
    """Whole and streamed: the markup of a call is never text for the user, and the finish reason says what happened."""
    ask = {"tools": [WEATHER], "max_tokens": 3, "ponder": DIRECT}
    async with serve(["Wait. " + CALL % "Rome"]) as served:
        whole = (await served.chat(**ask)).json()["choices"][0]
        stream = (await served.chat(stream=True, **ask)).text
    assert (whole["message"]["content"].strip(), whole["finish_reason"]) == ("Wait.", "length")
    assert ("".join(streamed(stream, "content")).strip(), finish(stream)) == ("Wait.", "length")


FORMER = {"functions": [WEATHER["function"]], "ponder": DIRECT}


async def test_functions_are_answered_in_their_own_form(serve) -> None:
    """OpenAI's former fields: the message has one `function_call`, whole and streamed, and no `tool_calls`."""
    async with serve([TWO]) as served:
        whole = (await served.chat(**FORMER)).json()["choices"][0]
        stream = (await served.chat(stream=True, **FORMER)).text
    expected = {"name": "weather", "arguments": '{"city": "Rome"}'}
    assert whole["message"] == {"role": "assistant", "content": None, "refusal": None, "function_call": expected}
    assert streamed(stream, "function_call") == [expected]
    assert streamed(stream) == []
    assert whole["finish_reason"] == finish(stream) == "function_call"


async def test_a_named_function_is_a_named_tool(serve) -> None:
    """As with tools, the choice then ends with "stop"."""
    ask = {**FORMER, "function_call": {"name": "weather"}}
    assert body(**ask).for_engine()["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    async with serve([CALL % "Rome"]) as served:
        choice = (await served.chat(**ask)).json()["choices"][0]
        unknown = await served.chat(**FORMER, function_call={"name": "clock"})
    assert (choice["message"]["function_call"]["name"], choice["finish_reason"]) == ("weather", "stop")
    assert unknown.status_code == 400
    assert "clock is not among the tools" in unknown.json()["error"]["message"]


async def test_functions_that_may_not_be_called_are_not_called(serve) -> None:
    assert not body(functions=[WEATHER["function"]], function_call="none").has_tools
