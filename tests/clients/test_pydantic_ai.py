"""Pydantic AI over its OpenAI model."""

import pytest
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.conftest import MODEL, Person

pytestmark = pytest.mark.anyio

HELLO = "Say hello."


@pytest.fixture
def agent(url):
    """`agent(model=…, …)` makes an agent."""
    provider = OpenAIProvider(base_url=url, api_key="none")
    return lambda model=MODEL, settings=None, **fields: Agent(
        OpenAIChatModel(model, provider=provider), model_settings={"max_tokens": 16, **(settings or {})}, **fields
    )


async def test_chat(agent) -> None:
    """A second question knows the first."""
    first = await agent().run(HELLO)
    assert first.output
    assert (await agent().run("And goodbye.", message_history=first.all_messages())).output


async def test_stream(agent) -> None:
    """The text, piece by piece."""
    async with agent().run_stream(HELLO) as run:
        assert "".join([piece async for piece in run.stream_text(delta=True)])


async def test_tools(agent) -> None:
    """The model must call a tool for the output, with arguments that follow its schema."""
    one = agent(settings={"temperature": 0, "max_tokens": 64}, output_type=ToolOutput(Person))
    assert isinstance((await one.run("Make up a person.")).output, Person)


async def test_structured_output(agent) -> None:
    """`response_format` holds the class's schema."""
    one = agent(settings={"temperature": 0, "max_tokens": 64}, output_type=NativeOutput(Person))
    assert isinstance((await one.run("Make up a person.")).output, Person)


async def test_strategy_by_name(agent) -> None:
    """The model's name carries the strategy."""
    run = await agent(f"{MODEL}@best_of_n").run(HELLO)
    assert run.usage.details["reasoning_tokens"] > 0


async def test_strategy_by_body(agent) -> None:
    """`extra_body` carries the object `ponder`."""
    run = await agent(settings={"extra_body": {"ponder": {"strategy": "best_of_n", "n": 2}}}).run(HELLO)
    assert run.usage.details["reasoning_tokens"] > 0


async def test_usage(agent) -> None:
    """In a reply and in a stream."""
    assert (await agent().run(HELLO)).usage.output_tokens
    async with agent().run_stream(HELLO) as run:
        await run.get_output()
        assert run.usage.output_tokens


async def test_errors(agent) -> None:
    """Its exception has the status and the body."""
    with pytest.raises(ModelHTTPError) as unknown:
        await agent("nobody").run(HELLO)
    assert unknown.value.status_code == 404
