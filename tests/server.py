"""`ponder serve` in a process of its own, for tests on real vLLM."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        self._wait_for("/ready")

    def _wait_for(self, path: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}{path}", timeout=5).status_code == 200:
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
        return Forked("ponder", command, self.log, environment)


class Replica(Server):
    """`vllm serve`, or `ponder replica`, for the embedded model, on one processor: a replica of a fleet.

    Args:
        number: of the replica; it runs on the processor of that number, if there are so many.
        options: of the command, beside those that ponder needs of vLLM.
        is_own: whether it is `ponder replica`.

    """

    def __init__(
        self, number: int, *options: str, log: Path, is_own: bool = False, variables: Mapping[str, str] | None = None
    ) -> None:
        self._program = "ponder" if is_own else "vllm"
        self._cpu = sorted(os.sched_getaffinity(0))[number % len(os.sched_getaffinity(0))]
        self._options = (
            "--served-model-name", MODEL, "--max-model-len", "8192", "--max-num-seqs", "64", "--block-size", "32",
            "--scheduling-policy", "priority", "--enable-lora", "--max-loras", "8", "--max-lora-rank", "16", "--enforce-eager",
            "--enable-scale-out", "--enable-prompt-tokens-details", "--no-enable-log-requests",
            "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}', *options,
        )  # fmt: skip
        super().__init__(log=log, variables=variables)

    def start(self, program: Path, command: list[str], environment: Mapping[str, str]) -> Forked:
        """Start the process."""
        from app.engine.hardware import plan_cpu
        from app.engine.weights.default_model import ensure_default_model
        from app.settings import Settings

        model = str(ensure_default_model(Settings().cache_dir.expanduser(), print))
        plan = plan_cpu()
        self._command = [
            "--model",
            model,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--dtype",
            plan.dtype,
            *self._options,
        ]
        self._environment = {
            **environment, **plan.environment(), "VLLM_CPU_OMP_THREADS_BIND": str(self._cpu), "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_MAX_STOP_STRINGS": "64",
            "VLLM_LOGGING_LEVEL": "WARNING", "PONDER_REPAIRS": "1", "CPUS": str(self._cpu),
        }  # fmt: skip
        if self._program == "ponder":
            self._environment = {**environment, "CPUS": str(self._cpu)}
            own = ("--kv-cache-gib", "1", "--adapter-slots", "8", "--log-level", "warning")
            self._command = ["replica", "--port", str(self.port), *own]
        return self.start_again()

    def start_again(self) -> Forked:
        """Start the process, also another one in place of one that was killed."""
        self.log.touch()
        self.process = Forked(self._program, self._command, self.log, self._environment)
        return self.process

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        for one in (self.process.pid, *self.descendants()):
            os.kill(one, signal.SIGKILL)
        self.process.wait(30)

    def wait(self) -> None:
        """Until it is healthy."""
        self._wait_for("/health")

    def count(self, metric: str) -> int:
        """One of its own counts, such as `generation_tokens_total`."""
        page = httpx.get(f"{self.url}/metrics", timeout=30).text
        return int(float(re.search(rf"^vllm:{metric}\{{[^}}]*\}} (\S+)", page, re.MULTILINE)[1]))


class FrontEnds:
    """Several front ends of one fleet that stand for one server; each test uses the next one.

    Args:
        servers: that share their state.

    """

    def __init__(self, servers: list[Server]) -> None:
        self._servers = servers
        self._number = 0

    def turn(self) -> None:
        """Use the next one from now on."""
        self._number += 1

    def __getattr__(self, name: str) -> Any:
        """What the one in use has."""
        return getattr(self._servers[self._number % len(self._servers)], name)


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
