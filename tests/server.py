"""`ponder serve` in a process of its own, for tests on real vLLM."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.forked import Forked

BIN = Path(sys.executable).parent
MODEL = "smollm2-135m"
START_TIMEOUT_S = 400  # slow machines convert the model first
_OF_A_DEVELOPER = ("PONDER_", "VLLM_LOGGING", "VLLM_CONFIGURE_LOGGING", "PYTHONWARNINGS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_DEVELOPER)}
"""What a user's shell has. Who runs the tests may have chosen another log, and libraries that tests import later set variables."""


class Server:
    """A `ponder serve` process on a free port of the loopback interface."""

    def __init__(
        self, *arguments: str, log: Path, program: Path = BIN / "ponder", variables: Mapping[str, str] | None = None
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.adapter_dir = log.with_name(f"{log.name}-adapters")
        arguments = ("--adapter-dir", str(self.adapter_dir), *arguments)
        command = ["serve", "--port", str(self.port), *arguments]
        self.process = self.start(program, command, ENVIRONMENT | dict(variables or {}))

    def start(self, program: Path, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes] | Forked:
        """Start the process."""
        with self.log.open("wb") as output:
            return subprocess.Popen([program, *command], stdout=output, stderr=subprocess.STDOUT, env=environment)

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

    def descendants(self) -> list[int]:
        """The ids of the processes that this one has started, and of those that they have started."""
        output = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = [tuple(map(int, line.split())) for line in output.splitlines()]
        found = [self.process.pid]
        for one in found:
            found += [child for child, parent in parents if parent == one]
        return found[1:]

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class ForkedServer(Server):
    """The same without the time that imports take; for tests of anything but the start itself."""

    def start(self, program: Path, command: list[str], environment: Mapping[str, str]) -> Forked:
        """Start the process."""
        self.log.touch()
        return Forked(command, self.log, environment)


def ended(processes: list[int], within: float) -> bool:
    """Whether all these processes end in so many seconds. A zombie has ended."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        states = subprocess.run(
            ["ps", "-o", "stat=", "-p", ",".join(map(str, processes))], capture_output=True, text=True
        ).stdout
        if all(state.startswith("Z") for state in states.split()):
            return True
        time.sleep(0.1)
    return False
