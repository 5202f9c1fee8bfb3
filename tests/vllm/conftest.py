"""Real servers, started as users start them; real clients. `server` in `tests/conftest.py` is the one that most tests share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from tests.server import ForkedServer, FrontEnds, Server
from tests.vllm.front_end import without_engine


@pytest.fixture(scope="session")
def llm() -> Any:
    """`without_engine` of the embedded model, with the options that decide how prompts are rendered and grammars checked."""
    from app.engine.vllm.arguments import engine_arguments
    from app.engine.vllm.options import EngineOptions

    model = str(ensure_default_model(Settings().cache_dir.expanduser(), print))
    options = EngineOptions(model=model, name="smollm2-135m", dtype="float32", max_model_len=2048, enforce_eager=True)
    return without_engine(engine_arguments(options).create_engine_config())


@pytest.fixture(autouse=True)
def next_front_end(request: pytest.FixtureRequest) -> None:
    """Where the shared server is several front ends, each test has another one."""
    if "server" in request.fixturenames and isinstance(server := request.getfixturevalue("server"), FrontEnds):
        server.turn()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[type[Server]]:
    """For tests that need one of their own, with other settings or to kill."""
    started: list[Server] = []

    def start(*arguments: str, is_forked: bool = True) -> Server:
        server = (ForkedServer if is_forked else Server)(*arguments, log=tmp_path / f"log-{len(started)}")
        started.append(server)
        server.wait()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    """The official client, synchronous."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300) as client:
        yield client


@pytest.fixture
async def async_client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, asynchronous."""
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300) as client:
        yield client


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """For what the official client hides."""
    async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
        yield client
