"""Anthropic's Python SDK over the Messages API."""

from typing import Literal

import anthropic
import pytest
from anthropic import beta_tool
from pydantic import BaseModel

from tests.clients.conftest import MODEL

pytestmark = pytest.mark.anyio

HELLO = {"role": "user", "content": "Say hello."}
ASK = {"model": MODEL, "messages": [HELLO], "max_tokens": 8}
# Greedy: now and then a sampled reply has a second call, or ends in the middle of one.
CALL = {**ASK, "max_tokens": 64, "extra_body": {"temperature": 0}}
WEATHER = {
    "name": "get_weather",
    "description": "Current weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
    },
}


class Trip(BaseModel):
    """What the model plans."""

    city: Literal["Paris", "Rome"]
    is_far: bool


@beta_tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


@pytest.fixture
def client(server):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server):
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def test_chat_goes_on_with_the_message_that_came(client) -> None:
    """Blocks are sent back as they came, behind a system prompt."""
    first = client.messages.create(**ASK, system="You help.")
    assert first.content[0].text
    history = [HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": "And goodbye."}]
    assert client.messages.create(**{**ASK, "messages": history}).content[0].text


async def test_chat_asynchronous(async_client) -> None:
    """The asynchronous client."""
    assert (await async_client.messages.create(**ASK)).content[0].text


def test_chat_raw(client) -> None:
    """The raw response has the headers, and parses to the same."""
    raw = client.messages.with_raw_response.create(**ASK)
    assert raw.headers["x-ponder-strategy"]
    assert raw.parse().content[0].text


def test_stream(client) -> None:
    """The raw events come in Anthropic's order."""
    events = [event.type for event in client.messages.create(**ASK, stream=True)]
    assert events[:2] == ["message_start", "content_block_start"]
    assert events[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_stream_helper(client) -> None:
    """`.stream()` tells the text, and its final message is whole."""
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        assert stream.get_final_text() == text != ""


async def test_stream_asynchronous(async_client) -> None:
    """The asynchronous helper."""
    async with async_client.messages.stream(**ASK) as stream:
        assert "".join([piece async for piece in stream.text_stream])


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}], ids=["any", "named"])
def test_tools(client, choice) -> None:
    """A call comes with an input that follows the schema; its result is sent back."""
    ask = {**CALL, "tools": [WEATHER]}
    message = client.messages.create(**ask, tool_choice=choice)
    [call] = message.content
    assert message.stop_reason == "tool_use"
    assert call.input["city"] in {"Paris", "Rome"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    history = [HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(**{**ask, "messages": history}, tool_choice={"type": "none"}).content[0].text


def test_tools_streamed(client) -> None:
    """The helper puts the input together from its deltas."""
    with client.messages.stream(**CALL, tools=[WEATHER], tool_choice={"type": "any"}) as stream:
        [call] = stream.get_final_message().content
    assert call.input["city"] in {"Paris", "Rome"}


def test_tools_by_the_runner(client) -> None:
    """The SDK's loop calls the function, and asks again with the result."""
    runner = client.beta.messages.tool_runner(**CALL, tools=[get_weather], tool_choice={"type": "any"}, max_iterations=2)
    calls = [message.content[0] for message in runner]
    assert [call.name for call in calls] == ["get_weather", "get_weather"]


@pytest.mark.parametrize("model", [MODEL, f"{MODEL}@best_of_n"])
def test_structured_output(client, model) -> None:
    """`.parse` returns an object of the class, also where several candidates are compared."""
    ask = {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "Plan a trip."}]}
    reply = client.messages.parse(**ask, output_format=Trip, extra_body={"temperature": 0.1})
    assert isinstance(reply.parsed_output, Trip)


def test_strategy_by_name(client) -> None:
    """`model@strategy` stands in the list of models, and is asked."""
    name = f"{MODEL}@best_of_n"
    assert client.messages.create(**{**ASK, "model": name}).ponder["strategy"] == "best_of_n"


def test_strategy_by_body(client) -> None:
    """`extra_body` carries the object `ponder`; what the search did is thinking."""
    body = {"ponder": {"strategy": "best_of_n", "n": 2}}
    reply = client.messages.create(**ASK, extra_body=body, thinking={"type": "enabled", "budget_tokens": 1024})
    assert len(reply.ponder["candidates"]) == 2
    assert [block.type for block in reply.content] == ["thinking", "text"]


def test_usage(client) -> None:
    """In a message and in a stream; the prompt is counted beforehand."""
    usage = client.messages.create(**ASK).usage
    count = client.messages.count_tokens(model=MODEL, messages=[HELLO])
    assert usage.input_tokens + usage.cache_read_input_tokens == count.input_tokens
    with client.messages.stream(**ASK) as stream:
        assert 0 < stream.get_final_message().usage.output_tokens <= 8


def test_errors(client) -> None:
    """The SDK's own exceptions, with the field that is wrong."""
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(**{**ASK, "model": "nobody"})
    assert unknown.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(**{**ASK, "extra_body": {"temperature": -1}})
