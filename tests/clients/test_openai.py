"""OpenAI's Python SDK."""

import json

import openai
import pytest

from tests.clients.conftest import MODEL, Person

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Say hello."}]
ASK = {"model": MODEL, "messages": HELLO, "max_tokens": 8}
# Greedy: now and then a sampled reply has a second call, or ends in the middle of one.
CALL = {**ASK, "max_tokens": 64, "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    },
}


def test_chat_goes_on_with_the_message_that_came(client) -> None:
    """A message is sent back as the SDK dumps it, with all its nulls."""
    message = client.chat.completions.create(**ASK).choices[0].message
    assert message.content
    history = [*HELLO, message.model_dump(), {"role": "user", "content": "And now goodbye."}]
    assert client.chat.completions.create(**{**ASK, "messages": history}).choices[0].message.content


async def test_chat_asynchronous(async_client) -> None:
    """The asynchronous client."""
    assert (await async_client.chat.completions.create(**ASK)).choices[0].message.content


def test_chat_raw(client) -> None:
    """The raw response has the headers, and parses to the same."""
    raw = client.chat.completions.with_raw_response.create(**ASK)
    assert raw.headers["x-ponder-strategy"]
    assert raw.parse().choices[0].message.content


def test_completions(client) -> None:
    """One prompt, several, and a stream."""
    one = client.completions.create(model=MODEL, prompt="The sea is", max_tokens=8)
    assert one.choices[0].text
    two = client.completions.create(model=MODEL, prompt=["The sea is", "The sky is"], max_tokens=8)
    assert [choice.index for choice in two.choices] == [0, 1]
    stream = client.completions.create(model=MODEL, prompt="The sea is", max_tokens=8, temperature=0, stream=True)
    again = client.completions.create(model=MODEL, prompt="The sea is", max_tokens=8, temperature=0)
    assert "".join(chunk.choices[0].text for chunk in stream) == again.choices[0].text


def test_stream_has_a_choice_in_every_chunk(client) -> None:
    """Readers take `chunk.choices[0]` unseen."""
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


async def test_stream_asynchronous(async_client) -> None:
    """The asynchronous client."""
    stream = await async_client.chat.completions.create(**ASK, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_stream_helper(client) -> None:
    """`.stream()` tells typed events, and its final completion is whole."""
    with client.chat.completions.stream(**{**ASK, "max_tokens": 64}, temperature=0) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=["required", "named"]
)
def test_tools(client, choice) -> None:
    """A call comes with arguments that follow the schema; its result is sent back."""
    message = client.chat.completions.create(**CALL, tools=[WEATHER], tool_choice=choice).choices[0].message
    [call] = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}
    history = [*HELLO, message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    assert (
        client.chat.completions.create(**{**ASK, "messages": history}, tools=[WEATHER], tool_choice="none")
        .choices[0]
        .message.content
    )


def test_tools_streamed(client) -> None:
    """The helper puts the call together from its deltas."""
    with client.chat.completions.stream(**CALL, tools=[WEATHER], tool_choice="required") as stream:
        [call] = stream.get_final_completion().choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}


@pytest.mark.parametrize("model", [MODEL, f"{MODEL}@best_of_n"])
def test_structured_output(client, model) -> None:
    """`.parse` returns an object of the class, also where several candidates are compared."""
    ask = {"model": model, "messages": [{"role": "user", "content": "Make up a person."}], "max_tokens": 64, "temperature": 0.1}
    reply = client.chat.completions.parse(**ask, response_format=Person)
    assert isinstance(reply.choices[0].message.parsed, Person)


def test_strategy_by_name(client) -> None:
    """`model@strategy` stands in the list of models, and is asked."""
    name = f"{MODEL}@best_of_n"
    assert name in [model.id for model in client.models.list()]
    assert client.chat.completions.create(**{**ASK, "model": name}).model_extra["ponder"]["strategy"] == "best_of_n"


def test_strategy_by_body(client) -> None:
    """`extra_body` carries the object `ponder`."""
    reply = client.chat.completions.create(**ASK, extra_body={"ponder": {"strategy": "best_of_n", "n": 2}})
    assert len(reply.model_extra["ponder"]["candidates"]) == 2


def test_usage(client) -> None:
    """In a reply, and in the last chunk of a stream that asks for it."""
    usage = client.chat.completions.create(**ASK).usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    *_, last = client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    assert last.usage.completion_tokens
    assert last.choices == []


def test_errors(client) -> None:
    """The SDK's own exceptions, with the field that is wrong."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(**{**ASK, "model": "nobody"})
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(**{**ASK, "temperature": -1})
    assert wrong.value.param == "temperature"
