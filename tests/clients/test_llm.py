"""Simon Willison's `llm`, with the server in `extra-openai-models.yaml` as its documentation shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.clients.conftest import MODEL, Person


@pytest.fixture
def llm(url, tmp_path):
    """`llm(argument, …)` runs the command; returns the finished process."""
    common = {"api_base": url, "supports_tools": True, "supports_schema": True}
    models = [
        {"model_id": "ponder", "model_name": MODEL, **common},
        {"model_id": "search", "model_name": f"{MODEL}@best_of_n", **common},
        {"model_id": "responses", "model_name": MODEL, "responses": True, **common},
        {"model_id": "nobody", "model_name": "nobody", **common},
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump(models))
    # The package of the embedded model is a plugin of `llm`, of which only the weights are installed.
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": "", "OPENAI_API_KEY": "none"}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [Path(sys.executable).parent / "llm", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL)

    return run


def said(done: subprocess.CompletedProcess) -> str:
    """What a command that succeeded has written."""
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_chat(llm) -> None:
    """A question, and a second in the same conversation."""
    assert said(llm("-m", "ponder", "--no-stream", "-o", "max_tokens", "8", "Say hello."))
    assert said(llm("-c", "--no-stream", "-o", "max_tokens", "8", "And goodbye."))


def test_responses(llm) -> None:
    """Over the Responses API, streamed or not; then a second question in the same conversation."""
    assert said(llm("-m", "responses", "-o", "max_tokens", "8", "Say hello."))
    assert said(llm("-c", "--no-stream", "-o", "max_tokens", "8", "And goodbye."))


def test_stream(llm) -> None:
    """Its default."""
    assert said(llm("-m", "ponder", "-o", "max_tokens", "8", "Say hello."))


def test_structured_output(llm) -> None:
    """`--schema`."""
    schema = json.dumps(Person.model_json_schema())
    text = said(
        llm("-m", "ponder", "--schema", schema, "-o", "max_tokens", "64", "-o", "temperature", "0", "Make up a person.")
    )
    assert Person.model_validate_json(text)


def test_strategy_by_name(llm) -> None:
    """A model of its own for the strategy."""
    assert said(llm("-m", "search", "--no-stream", "-o", "max_tokens", "8", "Say hello."))
    [log] = json.loads(said(llm("logs", "--json")))
    assert log["response_json"]["ponder"]["strategy"] == "best_of_n"


def test_usage(llm) -> None:
    """`--usage` tells the tokens, of a stream too."""
    for options in (["--no-stream"], []):
        done = llm("-m", "ponder", *options, "--usage", "-o", "max_tokens", "8", "Say hello.")
        assert said(done)
        assert "output" in done.stderr


def test_errors(llm) -> None:
    """It says what the server said."""
    done = llm("-m", "nobody", "Say hello.")
    assert done.returncode == 1
    assert "nobody" in done.stderr
