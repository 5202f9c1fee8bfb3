"""Real servers, started as users start them; real clients. `server` in `tests/conftest.py` is the one that most tests share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.server import Server


@pytest.fixture(scope="session")
def server_class() -> type[Server]:
    """For files that share a server of their own."""
    return Server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[type[Server]]:
    """For tests that need one of their own, with other settings or to kill."""
    started: list[Server] = []

    def start(*arguments: str) -> Server:
        server = Server(*arguments, log=tmp_path / f"log-{len(started)}")
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
