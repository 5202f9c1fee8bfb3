"""LangChain's `ChatOpenAI`."""

from typing import Annotated

import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import Field

from tests.clients.conftest import MODEL, Person

HELLO = "Say hello."
Digit = Annotated[int, Field(ge=0, le=9)]


@tool
def add(first: Digit, second: Digit) -> int:
    """Add two numbers."""
    return first + second


@pytest.fixture
def chat(url):
    """`chat(model=…, …)` makes a model."""
    return lambda model=MODEL, **fields: ChatOpenAI(
        base_url=url, api_key="none", model=model, max_retries=0, **{"max_tokens": 8, **fields}
    )


def test_chat(chat) -> None:
    """Its answer goes back into the conversation."""
    first = chat().invoke(HELLO)
    assert first.text
    assert chat().invoke([HumanMessage(HELLO), first, HumanMessage("And goodbye.")]).text


def test_responses(chat) -> None:
    """`use_responses_api`: invoked, streamed, with a tool and with a class."""
    first = chat(use_responses_api=True).invoke(HELLO)
    assert first.text
    history = [HumanMessage(HELLO), first, HumanMessage("And goodbye.")]
    assert "".join(chunk.text for chunk in chat(use_responses_api=True).stream(history))
    more = chat(use_responses_api=True, max_tokens=64, temperature=0)
    [call] = more.bind_tools([add], tool_choice="any").invoke("Add 2 and 3.").tool_calls
    assert add.invoke(call).content == str(call["args"]["first"] + call["args"]["second"])
    assert isinstance(more.with_structured_output(Person).invoke("Make up a person."), Person)


def test_stream(chat) -> None:
    """Its chunks add up to a message."""
    chunks = list(chat().stream(HELLO))
    assert "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize("choice", ["any", "add"])
def test_tools(chat, choice) -> None:
    """`bind_tools`: the call runs as it comes, and the model takes its result."""
    model = chat(max_tokens=64, temperature=0).bind_tools([add], tool_choice=choice)
    message = model.invoke("Add 2 and 3.")
    [call] = message.tool_calls
    result = add.invoke(call)
    assert isinstance(result, ToolMessage)
    assert result.content == str(call["args"]["first"] + call["args"]["second"])
    assert chat().bind_tools([add], tool_choice="none").invoke([HumanMessage("Add 2 and 3."), message, result]).text


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat, method) -> None:
    """`with_structured_output` returns an object of the class."""
    model = chat(max_tokens=64, temperature=0).with_structured_output(Person, method=method)
    assert isinstance(model.invoke("Make up a person."), Person)


def test_strategy_by_name(chat) -> None:
    """The model's name carries the strategy."""
    reply = chat(f"{MODEL}@best_of_n").invoke(HELLO)
    assert reply.text
    assert reply.usage_metadata["output_token_details"]["reasoning"] > 0


def test_strategy_by_body(chat) -> None:
    """`extra_body` carries the object `ponder`."""
    reply = chat(extra_body={"ponder": {"strategy": "best_of_n", "n": 2}}).invoke(HELLO)
    assert reply.usage_metadata["output_token_details"]["reasoning"] > 0


def test_usage(chat) -> None:
    """In a reply and in a stream."""
    usage = chat().invoke(HELLO).usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    chunks = list(chat(stream_usage=True).stream(HELLO))
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata)


def test_errors(chat) -> None:
    """OpenAI's exceptions."""
    with pytest.raises(openai.NotFoundError):
        chat("nobody").invoke(HELLO)
