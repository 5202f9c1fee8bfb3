"""OpenAI's Python SDK over the Responses API."""

import json
import time

import openai
import pytest

from tests.clients.conftest import MODEL, Person

pytestmark = pytest.mark.anyio

ASK = {"model": MODEL, "input": "Say hello.", "max_output_tokens": 8}
# Greedy: now and then a sampled reply has a second call, or ends in the middle of one.
CALL = {**ASK, "max_output_tokens": 64, "temperature": 0}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Current weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def test_responses(client) -> None:
    """An answer is gone on with by its id, and by its items."""
    first = client.responses.create(**ASK, instructions="You help.")
    assert first.output_text
    kept = client.responses.retrieve(first.id)
    assert kept.output_text == first.output_text
    assert client.responses.create(**{**ASK, "input": "And goodbye."}, previous_response_id=first.id).output_text
    history = [{"role": "user", "content": "Say hello."}, *first.output, {"role": "user", "content": "And goodbye."}]
    assert client.responses.create(**{**ASK, "input": history}, store=False).output_text


async def test_responses_asynchronous(async_client) -> None:
    """The asynchronous client, streamed or not."""
    assert (await async_client.responses.create(**ASK)).output_text
    stream = await async_client.responses.create(**ASK, stream=True)
    assert "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])


def test_responses_raw(client) -> None:
    """The raw response has the headers, and parses to the same."""
    raw = client.responses.with_raw_response.create(**ASK)
    assert raw.headers["x-ponder-strategy"]
    assert raw.parse().output_text


def test_responses_stream(client) -> None:
    """Every event has a type that the SDK knows, and the next number."""
    events = list(client.responses.create(**ASK, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type in {"response.completed", "response.incomplete"}
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text


def test_responses_stream_helper(client) -> None:
    """`.stream()` parses the answer when it is whole."""
    ask = {"model": MODEL, "input": "Make up a person.", "max_output_tokens": 64, "temperature": 0}
    with client.responses.stream(**ask, text_format=Person) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert Person.model_validate_json(text) == final.output_parsed


@pytest.mark.parametrize("model", [MODEL, f"{MODEL}@best_of_n"])
def test_responses_structured_output(client, model) -> None:
    """`.parse` returns an object of the class, also where several candidates are compared."""
    ask = {"model": model, "input": "Make up a person.", "max_output_tokens": 64, "temperature": 0.1}
    assert isinstance(client.responses.parse(**ask, text_format=Person).output_parsed, Person)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}], ids=["required", "named"])
def test_responses_tools(client, choice) -> None:
    """A call follows the schema, beside a tool that no server of ours runs; its result is sent back."""
    ask = {**CALL, "tools": [WEATHER, {"type": "web_search"}]}
    first = client.responses.create(**ask, tool_choice=choice)
    call = first.output[-1]
    assert json.loads(call.arguments)["city"] in {"Paris", "Rome"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    again = {**ask, "input": [result], "previous_response_id": first.id, "tool_choice": "none"}
    assert client.responses.create(**again).output_text


def test_responses_tools_streamed(client) -> None:
    """The arguments come piece by piece."""
    events = list(client.responses.create(**CALL, tools=[WEATHER], tool_choice="required", stream=True))
    pieces = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    [done] = [event.arguments for event in events if event.type == "response.function_call_arguments.done"]
    assert pieces == done
    assert json.loads(done)["city"] in {"Paris", "Rome"}


def test_responses_in_the_background(client) -> None:
    """A search is polled to its end; another one is cancelled, and deleted."""
    ask = {**ASK, "model": f"{MODEL}@best_of_n", "background": True}
    response = client.responses.create(**ask)
    while response.status in {"queued", "in_progress"}:
        time.sleep(0.1)
        response = client.responses.retrieve(response.id)
    assert response.status in {"completed", "incomplete"}
    assert response.output_text
    long = client.responses.create(**{**ask, "max_output_tokens": 1000})
    assert client.responses.cancel(long.id).status == "cancelled"
    client.responses.delete(long.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(long.id)


def test_responses_strategy(client) -> None:
    """By the model's name, and by `extra_body`."""
    named = client.responses.create(**{**ASK, "model": f"{MODEL}@best_of_n"})
    assert named.model_extra["ponder"]["strategy"] == "best_of_n"
    asked = client.responses.create(**ASK, extra_body={"ponder": {"strategy": "best_of_n", "n": 2}})
    assert len(asked.model_extra["ponder"]["candidates"]) == 2


def test_responses_usage(client) -> None:
    """In a response, and in the last event of a stream."""
    usage = client.responses.create(**ASK).usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    *_, last = client.responses.create(**ASK, stream=True)
    assert last.response.usage.output_tokens


def test_responses_errors(client) -> None:
    """The SDK's own exceptions, with the field that is wrong."""
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**{**ASK, "model": "nobody"})
    with pytest.raises(openai.BadRequestError) as lost:
        client.responses.create(**ASK, previous_response_id="resp_nobody")
    assert lost.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.responses.create(**ASK, temperature=-1)
    assert wrong.value.param == "temperature"
