"""LiteLLM: its SDK, and its proxy in front of the server."""

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import httpx
import litellm
import openai
import pytest
import yaml

from tests.clients.conftest import MODEL, Person, free_port

HELLO = [{"role": "user", "content": "Say hello."}]
PERSON = [{"role": "user", "content": "Make up a person."}]
TOOL = {"type": "function", "function": {"name": "person", "parameters": Person.model_json_schema()}}


@pytest.fixture
def ask(url):
    """Ask by LiteLLM's SDK."""

    def ask(messages=HELLO, model=MODEL, **fields):
        options = {"api_base": url, "api_key": "none", "max_tokens": 8, "num_retries": 0, **fields}
        return litellm.completion(model=f"openai/{model}", messages=messages, **options)

    return ask


@pytest.fixture(scope="module")
def proxy(url, tmp_path_factory):
    """A client of LiteLLM's proxy."""
    folder = tmp_path_factory.mktemp("proxy")
    port = free_port()
    served = {"model": "openai/*", "api_base": url, "api_key": "none"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model_list": [{"model_name": "*", "litellm_params": served}]}))
    command = [Path(sys.executable).parent / "litellm", "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    key = f"sk-{secrets.token_hex(32)}"
    environment = {**os.environ, "LITELLM_MASTER_KEY": key}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + 200
        while not is_alive(port):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-4000:]  # noqa: PT018
            time.sleep(0.5)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}", api_key=key, max_retries=0) as client:
            yield client
    finally:
        process.terminate()
        process.wait(30)


def is_alive(port: int) -> bool:
    """Whether the proxy answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_chat(ask) -> None:
    """A message goes back into the conversation."""
    message = ask().choices[0].message
    assert message.content
    assert ask([*HELLO, message.model_dump(), {"role": "user", "content": "And goodbye."}]).choices[0].message.content


def test_chat_by_the_proxy(proxy) -> None:
    """The proxy passes a reply on."""
    assert proxy.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8).choices[0].message.content


def test_completions(url) -> None:
    """The text API."""
    reply = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt="The sea is", max_tokens=8, api_base=url, api_key="none"
    )
    assert reply.choices[0].text


def test_responses(url) -> None:
    """The Responses API, streamed or not."""
    common = {"model": f"openai/{MODEL}", "input": "Say hello.", "max_output_tokens": 8, "api_base": url, "api_key": "none"}
    assert litellm.responses(**common).output[-1].content[0].text
    assert [event.type for event in litellm.responses(**common, stream=True)].count("response.output_text.done") == 1


def test_responses_by_the_proxy(proxy) -> None:
    """The proxy passes a response on."""
    assert proxy.responses.create(model=MODEL, input="Say hello.", max_output_tokens=8).output_text


def test_stream(ask) -> None:
    """A choice in every chunk."""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True))


def test_stream_by_the_proxy(proxy) -> None:
    """The proxy passes a stream on."""
    stream = proxy.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_tools(ask) -> None:
    """A required call follows its schema."""
    [call] = ask(PERSON, tools=[TOOL], tool_choice="required", max_tokens=64, temperature=0).choices[0].message.tool_calls
    assert Person.model_validate_json(call.function.arguments)


def test_structured_output(ask) -> None:
    """`response_format` takes the class."""
    assert Person.model_validate_json(
        ask(PERSON, response_format=Person, max_tokens=64, temperature=0).choices[0].message.content
    )


def test_structured_output_by_the_proxy(proxy) -> None:
    """The proxy passes the schema on."""
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema()}}
    reply = proxy.chat.completions.create(model=MODEL, messages=PERSON, max_tokens=64, temperature=0, response_format=schema)
    assert json.loads(reply.choices[0].message.content).keys() == {"name", "age"}


def test_strategy_by_name(ask) -> None:
    """The model's name carries the strategy."""
    assert ask(model=f"{MODEL}@best_of_n").usage.completion_tokens_details.reasoning_tokens > 0


def test_strategy_by_name_by_the_proxy(proxy) -> None:
    """The proxy passes the name on."""
    reply = proxy.chat.completions.create(model=f"{MODEL}@best_of_n", messages=HELLO, max_tokens=8)
    assert reply.usage.completion_tokens_details.reasoning_tokens > 0


def test_strategy_by_body(ask) -> None:
    """`extra_body` carries the object `ponder`."""
    reply = ask(extra_body={"ponder": {"strategy": "best_of_n", "n": 2}})
    assert reply.usage.completion_tokens_details.reasoning_tokens > 0


def test_usage(ask) -> None:
    """In a reply, and at the end of a stream that asks for it."""
    assert ask().usage.completion_tokens
    *_, last = ask(stream=True, stream_options={"include_usage": True})
    assert last.usage.completion_tokens


def test_errors(ask) -> None:
    """Its own exceptions."""
    with pytest.raises(litellm.NotFoundError):
        ask(model="nobody")
    with pytest.raises(litellm.BadRequestError):
        ask(temperature=-1)
