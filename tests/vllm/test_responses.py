"""The Responses API on real vLLM, with OpenAI's own client."""

import time

import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.vllm

TOOL = {
    "type": "function", "name": "look", "strict": True,
    "parameters": {
        "type": "object", "properties": {"at": {"enum": ["a", "b"]}}, "required": ["at"], "additionalProperties": False,
    },
}  # fmt: skip


class Answer(BaseModel):
    is_even: bool


@pytest.fixture
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_what_its_users_do_first(client: openai.OpenAI) -> None:
    """Create, go on, stream with the helper, parse, call a tool."""
    few = {"model": "smollm2-135m", "max_output_tokens": 8}
    direct = {"ponder": {"strategy": "direct"}}
    first = client.responses.create(input="Say hello.", **few, extra_body=direct)
    assert first.output_text
    assert first.usage.output_tokens <= 8
    second = client.responses.create(input="Again.", previous_response_id=first.id, **few, extra_body=direct)
    assert second.usage.input_tokens > first.usage.input_tokens
    # The helper wants the whole answer: one that is cut is no end for it.
    with client.responses.stream(
        model="smollm2-135m", input="Say hello.", temperature=0, max_output_tokens=64, extra_body=direct
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text != ""
    parsed = client.responses.parse(
        model="smollm2-135m", input="Is 2 even?", text_format=Answer, max_output_tokens=32, extra_body=direct
    )
    assert isinstance(parsed.output_parsed, Answer)
    called = client.responses.create(
        model="smollm2-135m", input="Look at a.", tools=[TOOL, {"type": "web_search"}], tool_choice="required",
        max_output_tokens=64, extra_body=direct,
    )  # fmt: skip
    assert called.output[-1].type == "function_call"
    assert called.output[-1].name == "look"


def test_a_search_in_the_background(client: openai.OpenAI) -> None:
    """It is polled, its stream is read on, and another one is cancelled."""
    search = {"ponder": {"strategy": "self_consistency", "n": 2}}
    ask = {"model": "smollm2-135m", "input": "What is 1 + 1?", "background": True, "extra_body": search}
    response = client.responses.create(max_output_tokens=8, **ask)
    assert response.status == "queued"
    while response.status in ("queued", "in_progress"):
        time.sleep(0.1)
        response = client.responses.retrieve(response.id)
    assert response.status in ("completed", "incomplete")
    events = list(client.responses.retrieve(response.id, stream=True, starting_after=1))
    assert [event.sequence_number for event in events] == list(range(2, 2 + len(events)))
    long = client.responses.create(max_output_tokens=1500, **ask)
    assert client.responses.cancel(long.id).status == "cancelled"
    client.responses.delete(long.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(long.id)
