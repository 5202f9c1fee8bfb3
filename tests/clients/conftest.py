"""One real server for the clients that people use, each as it is released. They are installed in `.venv-clients` alone.

A file is named after its client, and a test begins with the name of the feature that it shows: `tests/clients/table.py` makes the table
of the documentation from these names.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from tests.tools import ROOT
from tests.vllm.conftest import Server

MODEL = "smollm2-135m"
HERE = Path(__file__).parent

collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("litellm") is None else []

# No client speaks to anybody but the server: no hub, no table of prices, no traces.
os.environ.update(
    HF_HUB_OFFLINE="1",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    OPENAI_AGENTS_DISABLE_TRACING="1",
    LANGSMITH_TRACING="false",
    DO_NOT_TRACK="1",
)


class Person(BaseModel):
    """What models are asked for: short, since a small model does not stop by itself."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=99)


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all clients share."""
    options = ("--kv-cache-gib", "1", "--adapter-slots", "0", "--dtype", "float32")
    server = Server(*options, log=tmp_path_factory.mktemp("server") / "log", program=ROOT / ".venv" / "bin" / "ponder")
    server.wait()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def url(server: Server) -> str:
    """What a client takes as its base URL."""
    return f"{server.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """OpenAI's client. The files of other clients have one of their own."""
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """The same, asynchronous."""
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def node(url: str) -> Callable[[str, str], Any]:
    """`node(script, function)` calls an exported function of a script beside this file; returns what it returns."""

    def call(script: str, function: str) -> Any:
        program = f"import * as tests from './{script}'; console.log(JSON.stringify(await tests.{function}()))"
        command = [Path(sys.executable).parent / "node", "--input-type=module", "--eval", program]
        done = subprocess.run(
            command, cwd=HERE, env={**os.environ, "BASE_URL": url, "MODEL": MODEL}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call
