"""One real server for all tests of this folder, started as a user starts it; real clients."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pytest

BIN = Path(sys.executable).parent
MODEL = "smollm2-135m"
START_TIMEOUT_S = 400  # slow machines convert the model first


class Server:
    """A `ponder serve` process on a free port of the loopback interface."""

    def __init__(self, *arguments: str, log: Path, program: Path = BIN / "ponder") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PONDER_")}
        self.adapter_dir = log.with_name(f"{log.name}-adapters")
        arguments = ("--adapter-dir", str(self.adapter_dir), *arguments)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [program, "serve", "--port", str(self.port), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def wait(self) -> None:
        """Until it is ready; its log is the error when it does not come."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.3)
        pytest.fail(f"the server did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="session")
def server_class() -> type[Server]:
    """For files that share a server of their own."""
    return Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    server = Server(log=tmp_path_factory.mktemp("server") / "log")
    server.wait()
    yield server
    assert server.stop() == 0


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
