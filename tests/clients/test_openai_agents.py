"""OpenAI's Agents SDK, over chat completions and over its default, the Responses API."""

from typing import Literal

import openai
import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    StopAtTools,
    function_tool,
)

from tests.clients.conftest import MODEL, Person

pytestmark = pytest.mark.anyio


@function_tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


@pytest.fixture
async def agent(url):
    """`agent(model=…, settings=…, api=…, …)` makes an agent."""
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield lambda model=MODEL, settings=None, api=OpenAIChatCompletionsModel, **fields: Agent(
            name="Helper",
            instructions="You help.",
            model=api(model, client),
            model_settings=ModelSettings(**{"max_tokens": 8, **(settings or {})}),
            **fields,
        )


async def test_chat(agent) -> None:
    """A second question knows the first."""
    first = await Runner.run(agent(), "Say hello.")
    assert first.final_output
    history = [*first.to_input_list(), {"role": "user", "content": "And goodbye."}]
    assert (await Runner.run(agent(), history)).final_output


async def test_responses_structured_output(agent) -> None:
    """`output_type` holds the class's schema."""
    settings = {"max_tokens": 64, "temperature": 0}
    run = await Runner.run(agent(settings=settings, api=OpenAIResponsesModel, output_type=Person), "Make up a person.")
    assert isinstance(run.final_output, Person)


async def test_stream(agent) -> None:
    """Text comes as OpenAI's events."""
    run = Runner.run_streamed(agent(), "Say hello.")
    events = [event.data async for event in run.stream_events() if event.type == "raw_response_event"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == run.final_output


async def test_tools(agent) -> None:
    """The agent calls its tool with the arguments that came."""
    one = agent(
        settings={"tool_choice": "required", "max_tokens": 64, "temperature": 0},
        tools=[get_weather],
        tool_use_behavior=StopAtTools(stop_at_tool_names=["get_weather"]),
    )
    assert (await Runner.run(one, "What is the weather in Paris?")).final_output.startswith("It is sunny in ")


async def test_tools_result(agent) -> None:
    """The model answers after the tool has run: the choice is reset."""
    one = agent(settings={"tool_choice": "required", "max_tokens": 64, "temperature": 0}, tools=[get_weather])
    run = await Runner.run(one, "What is the weather in Paris?", max_turns=4)
    assert [item.type for item in run.new_items][:2] == ["tool_call_item", "tool_call_output_item"]
    assert run.final_output


async def test_structured_output(agent) -> None:
    """`output_type` holds the class's schema."""
    run = await Runner.run(agent(settings={"max_tokens": 64, "temperature": 0}, output_type=Person), "Make up a person.")
    assert isinstance(run.final_output, Person)


async def test_strategy_by_name(agent) -> None:
    """The model's name carries the strategy."""
    run = await Runner.run(agent(f"{MODEL}@best_of_n"), "Say hello.")
    assert run.context_wrapper.usage.output_tokens_details.reasoning_tokens > 0


async def test_strategy_by_body(agent) -> None:
    """`extra_body` carries the object `ponder`."""
    run = await Runner.run(agent(settings={"extra_body": {"ponder": {"strategy": "best_of_n", "n": 2}}}), "Say hello.")
    assert run.context_wrapper.usage.output_tokens_details.reasoning_tokens > 0


async def test_usage(agent) -> None:
    """In a run, and in a streamed one that asks for it."""
    assert (await Runner.run(agent(), "Say hello.")).context_wrapper.usage.output_tokens
    run = Runner.run_streamed(agent(settings={"include_usage": True}), "Say hello.")
    async for _ in run.stream_events():
        pass
    assert run.context_wrapper.usage.output_tokens


async def test_errors(agent) -> None:
    """OpenAI's exceptions."""
    with pytest.raises(openai.NotFoundError):
        await Runner.run(agent("nobody"), "Say hello.")
