"""Runs `ponder serve` as a child process for as long as an offline command needs it.

It listens on a free port of the loopback interface.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from adapters.config import CONFIG_FILE, read_config
from adapters.training.errors import MachineRefused
from adapters.training.ports import ModelAddress

START_TIMEOUT_S = 600
"""Seconds that a server may take to start. A large model is read from disk, and the embedded one is converted at its first start."""

BASE = "base"
"""The name under which the base model is served."""

MIN_RANK = 16
"""The smallest rank of slots for adapters; vLLM's ranks are powers of two."""

WITH_ITS_PARENT = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
"""Prefix of a command that ends the child when this process ends, even by kill -9. `setpriv` is part of util-linux."""


@contextmanager
def preloaded(adapters: Mapping[str, Path]) -> Iterator[list[str]]:
    """Give the options of `ponder serve` with which it serves these adapters, by name."""
    slots = len(adapters) + 1 if adapters else 0
    with preloaded_folder(adapters) as (folder, rank):
        yield ["--adapter-slots", str(slots), "--adapter-preload-dir", str(folder), "--max-adapter-rank", str(rank)]


@contextmanager
def preloaded_folder(adapters: Mapping[str, Path]) -> Iterator[tuple[Path, int]]:
    """Make a folder with these adapters by name, and give it with the rank that slots must have for them."""
    ranks = [read_config(place / CONFIG_FILE).r for place in adapters.values()]
    with tempfile.TemporaryDirectory() as folder:
        for name, place in adapters.items():
            (Path(folder) / name).symlink_to(place.resolve(), target_is_directory=True)
        yield Path(folder), max([MIN_RANK, *(1 << (rank - 1).bit_length() for rank in ranks)])


@contextmanager
def serving(model: str, name: str, log: Path, adapters: Mapping[str, Path]) -> Iterator[ModelAddress]:
    """Run `ponder serve` with a model and adapters, and give the address of the one called `name`.

    The server has a key that only this process knows, so that no other user of the machine can use it. It ends with the
    context. This blocks for as long as the server starts, so it must not be called in a running event loop.

    Raises `MachineRefused` when the server does not start.
    """
    key = secrets.token_urlsafe()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "ponder", "serve", "--model", model, "--model-name", BASE, "--host", "127.0.0.1",
               "--port", str(port), "--log-level", "warning", "--no-shipped-adapters"]  # fmt: skip
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as store, preloaded(adapters) as options:
        environment = {"PONDER_API_KEYS": key, "PONDER_ADMIN_KEYS": key, "PONDER_ADAPTER_DIR": store}
        with running([*command, *options], f"{url}/ready", log, environment):
            yield ModelAddress(url, name, key)


@contextmanager
def running(command: list[str], ready: str, log: Path, environment: dict[str, str]) -> Iterator[int]:
    """Run a server, and give its process id once it answers with status 200.

    It ends with the context, and with this process.

    Args:
        command: the command line of the server.
        ready: a URL that returns status 200 once the server can be used.
        log: the file to which the server's output is written.
        environment: variables that are added to those of this process.

    Raises:
        MachineRefused: the server ends, or does not answer in time.

    """
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the caller's own program
            [*WITH_ITS_PARENT, *command], stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        _wait(process, ready, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(ready, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise MachineRefused(f"the server does not start to answer; its log is {log}")


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
