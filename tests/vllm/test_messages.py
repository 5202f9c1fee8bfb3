"""Anthropic's Messages API on real vLLM, through the official client."""

from collections.abc import Iterator

import anthropic
import pytest

pytestmark = pytest.mark.vllm

MODEL = "smollm2-135m"
SUM = [{"role": "user", "content": "What is 17 + 25?"}]
WEATHER = {
    "name": "get_weather",
    "description": "Current weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def claude(server) -> Iterator[anthropic.Anthropic]:
    """The official client."""
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=300) as client:
        yield client


def test_a_message_and_its_count(claude: anthropic.Anthropic) -> None:
    """The prompt is counted as it is rendered, with its system prompt."""
    prompt = {"model": MODEL, "messages": SUM, "system": "Be brief."}
    message = claude.messages.create(**prompt, max_tokens=16, extra_body={"temperature": 0, "ponder": {"strategy": "direct"}})
    count = claude.messages.count_tokens(**prompt)
    assert message.content[0].text
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens == count.input_tokens
    assert message.usage.output_tokens == message.ponder["tokens"]["decoded"]
    assert message.stop_reason in ("end_turn", "max_tokens")


def test_a_stream_of_a_search(claude: anthropic.Anthropic) -> None:
    """The client's helper puts it together: what the search did, then its answer."""
    with claude.messages.stream(
        model=f"{MODEL}@self_consistency", max_tokens=48, messages=SUM, thinking={"type": "enabled", "budget_tokens": 1024}
    ) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert [block.type for block in message.content][-1] == "text"
    assert message.content[-1].text == text
    assert {block.signature for block in message.content[:-1]} <= {"ponder.search"}
    assert message.usage.output_tokens > 0


def test_a_stop_sequence(claude: anthropic.Anthropic) -> None:
    """The answer is begun by the caller, so that the model must count on."""
    messages = [{"role": "user", "content": "Count to ten."}, {"role": "assistant", "content": "1, 2, 3, 4, 5, 6,"}]
    message = claude.messages.create(
        model=f"{MODEL}@direct",
        max_tokens=32,
        messages=messages,
        stop_sequences=["9"],
        extra_body={"temperature": 0},
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "9")
    assert "9" not in message.content[0].text


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_call_and_its_result(claude: anthropic.Anthropic, is_streamed: bool) -> None:
    """A call that is asked for follows the tool's schema; the message goes back as it came, with the result."""
    ask = {
        "model": f"{MODEL}@direct",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Weather in Rome?"}],
        "tools": [WEATHER],
    }
    choice = {"type": "tool", "name": "get_weather"}
    if is_streamed:
        with claude.messages.stream(**ask, tool_choice=choice) as stream:
            message = stream.get_final_message()
    else:
        message = claude.messages.create(**ask, tool_choice=choice)
    [call] = message.content
    assert (call.type, call.name, message.stop_reason) == ("tool_use", "get_weather", "tool_use")
    assert isinstance(call.input["city"], str)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    said = [*ask["messages"], {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    again = claude.messages.create(**{**ask, "messages": said}, tool_choice={"type": "none"})
    assert again.content[0].type == "text"


def test_errors_are_the_clients_own(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as error:
        claude.messages.create(model="nobody", max_tokens=4, messages=SUM)
    assert error.value.body["error"]["type"] == "not_found_error"
    assert error.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.messages.create(model=MODEL, max_tokens=0, messages=SUM)
