"""A Valkey server that a test may kill and start again."""

import contextlib
import signal
import socket
import subprocess
import time
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

    def pause(self) -> None:
        """Let it keep its connections and answer nothing, as behind a broken network."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
