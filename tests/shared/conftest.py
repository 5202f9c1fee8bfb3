"""A Valkey server that a test may kill and start again, and front ends that share it."""

import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.tools import tool


class Valkey:
    """A real server on the loopback interface. `options` are those of its configuration."""

    def __init__(self, folder: Path, **options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        folder.mkdir(exist_ok=True)
        given = {"save": "", "appendonly": "no", **options, "port": str(self.port), "bind": "127.0.0.1", "dir": str(folder)}
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        self._command = [tool("valkey-server"), *words]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
            time.sleep(0.01)
        pytest.fail("valkey-server did not start")

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A running server that keeps nothing on disk."""
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def durable_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A running server that has written each change to disk before it answers."""
    server = Valkey(tmp_path / "valkey", appendonly="yes", appendfsync="always")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def front_end(serve, tmp_path: Path):
    """`async with front_end("a", valkey.url) as a`: one of several front ends. They share the adapter folder, and no other."""

    @asynccontextmanager
    async def running(name: str, url: str, *script: object, **settings: object) -> AsyncIterator:
        own = {"policy_dir": tmp_path / name / "policies", "shared_state_url": url, "port": 0, **settings}
        async with serve(*script, **own) as served:
            yield served

    return running
