"""A server of our own for as long as a training command needs answers: this program again, on a free port of the loopback interface."""

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
from dataclasses import dataclass
from pathlib import Path

import httpx

from adapters.config import CONFIG_FILE, read_config
from adapters.training.errors import MachineRefused

START_TIMEOUT_S = 600

BASE = "base"
"""The name under which a model without an adapter is served here."""

MIN_RANK = 16
"""Of slots for adapters: vLLM knows powers of two."""

WITH_ITS_PARENT = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
"""Before a command: it ends when this process does, also by kill -9 (util-linux, so on any Linux)."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model answers, by the OpenAI API; without a name it is the only one there."""

    url: str
    model: str | None
    key: str | None = None


@contextmanager
def preloaded(adapters: Mapping[str, Path]) -> Iterator[list[str]]:
    """Options of `ponder serve` with which it serves these adapters, by name."""
    slots = len(adapters) + 1 if adapters else 0
    with preloaded_folder(adapters) as (folder, rank):
        yield ["--adapter-slots", str(slots), "--adapter-preload-dir", str(folder), "--max-adapter-rank", str(rank)]


@contextmanager
def preloaded_folder(adapters: Mapping[str, Path]) -> Iterator[tuple[Path, int]]:
    """A folder with these adapters by name, and the rank that slots must have for them."""
    ranks = [read_config(place / CONFIG_FILE).r for place in adapters.values()]
    with tempfile.TemporaryDirectory() as folder:
        for name, place in adapters.items():
            (Path(folder) / name).symlink_to(place.resolve(), target_is_directory=True)
        yield Path(folder), max([MIN_RANK, *(1 << (rank - 1).bit_length() for rank in ranks)])


@contextmanager
def serving(model: str, name: str, log: Path, adapters: Mapping[str, Path]) -> Iterator[Address]:
    """The model or adapter called `name` of a `ponder serve` with `model` and adapters by name.

    Raises `MachineRefused` when it does not start. Blocks while it starts: not for a running event loop.

    Only this process knows its key. It ends with the context, whatever ends that.
    """
    key = secrets.token_urlsafe()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app.cli", "serve", "--model", model, "--model-name", BASE, "--host", "127.0.0.1",
               "--port", str(port), "--log-level", "warning", "--no-shipped-adapters"]  # fmt: skip
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as store, preloaded(adapters) as options:
        environment = {"PONDER_API_KEYS": key, "PONDER_ADMIN_KEYS": key, "PONDER_ADAPTER_DIR": store}
        with running([*command, *options], f"{url}/ready", log, environment):
            yield Address(url, name, key)


@contextmanager
def running(command: list[str], ready: str, log: Path, environment: dict[str, str]) -> Iterator[int]:
    """The id of the process of a server that has answered `ready` with 200; raises `MachineRefused` when it does not.

    `environment` is set beside this process's own; what it prints goes to `log`. It ends with the context, and with this process.
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
    """Of the loopback interface, free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
