"""Instructor."""

import instructor
import openai
import pytest
from instructor.core import InstructorRetryException

from tests.clients.conftest import MODEL, Person

ASK = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Make up a person."}],
    "response_model": Person,
    "max_tokens": 64,
    "temperature": 0.1,
    "max_retries": 0,
}


@pytest.fixture
def client(url):
    """`client(mode)` makes a client."""
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as sdk:
        yield lambda mode=instructor.Mode.TOOLS: instructor.from_openai(sdk, mode=mode)


def test_tools(client) -> None:
    """The default: a call of a named tool, whose arguments are the object."""
    assert isinstance(client().create(**ASK), Person)


@pytest.mark.parametrize("mode", [instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS_STRICT])
def test_structured_output(client, mode) -> None:
    """`response_format`, and strict tools."""
    assert isinstance(client(mode).create(**ASK), Person)


def test_stream(client) -> None:
    """The object grows while it is written."""
    *_, last = client().create_partial(**ASK)
    assert Person.model_validate(last.model_dump())


def test_strategy_by_name(client) -> None:
    """The model's name carries the strategy."""
    person, reply = client().create_with_completion(**{**ASK, "model": f"{MODEL}@best_of_n"})
    assert isinstance(person, Person)
    assert reply.model_extra["ponder"]["strategy"] == "best_of_n"


def test_strategy_by_body(client) -> None:
    """`extra_body` carries the object `ponder`."""
    _, reply = client().create_with_completion(**ASK, extra_body={"ponder": {"strategy": "best_of_n", "n": 2}})
    assert reply.model_extra["ponder"]["strategy"] == "best_of_n"


def test_usage(client) -> None:
    """The reply comes with the object."""
    _, reply = client().create_with_completion(**ASK)
    assert reply.usage.completion_tokens


def test_errors(client) -> None:
    """Its exception tells what the server said."""
    with pytest.raises((InstructorRetryException, openai.NotFoundError), match="nobody"):
        client().create(**{**ASK, "model": "nobody"})
