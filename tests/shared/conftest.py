"""Front ends that share a Valkey server."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.shared.process import Process
from tests.valkey import Valkey


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


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """`process("a", shared_state_url=…)`: a front end in a process of its own; call `wait` before it is used."""
    started: list[Process] = []

    def start(name: str, **settings: object) -> Process:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        started.append(Process(port, tmp_path / name, adapter_dir=tmp_path / "adapters", **settings))
        return started[-1]

    yield start
    for one in started:
        one.kill()
