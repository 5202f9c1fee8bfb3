"""vLLM's processes end with the server."""

import os
import subprocess
import sys

import pytest

from app.engine.worker.server_watch import SERVER_PID, watch_server

CHILD = "import time; from app.engine.worker.server_watch import watch_server; watch_server(); print('on', flush=True); time.sleep(60)"


@pytest.fixture
def start():
    """`start(program, pid)` starts a process that takes the process `pid` for its server."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str, server: int | None = None) -> subprocess.Popen[str]:
        environment = {**os.environ, **({} if server is None else {SERVER_PID: str(server)})}
        started.append(subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_ends_with_its_server(start) -> None:
    """Also where the server is killed, or is gone before the process looks."""
    server = start("import time; time.sleep(60)")
    child = start(CHILD, server.pid)
    assert child.stdout.readline() == "on\n"
    assert child.poll() is None
    server.kill()
    server.wait()
    assert child.wait(timeout=30) == -9
    assert start(CHILD, server.pid).wait(timeout=30) == -9


def test_other_processes_are_left_alone(start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself, and programs that use vLLM without ponder."""
    monkeypatch.setenv(SERVER_PID, str(os.getpid()))
    watch_server()
    other = start(CHILD.replace("time.sleep(60)", "time.sleep(0.5)"))
    assert other.wait(timeout=30) == 0
