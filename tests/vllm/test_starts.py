"""The start of a server: how it is ended, and what it says when it cannot go on."""

import signal
import time

import pytest

from tests.server import Server, ended

pytestmark = pytest.mark.vllm


def until_it_logs(server: Server, text: str) -> None:
    """Wait for a line of the log."""
    deadline = time.monotonic() + 120
    while text not in server.log.read_text(errors="replace"):
        assert time.monotonic() < deadline, server.log.read_text(errors="replace")
        assert server.process.poll() is None, server.log.read_text(errors="replace")
        time.sleep(0.1)


@pytest.mark.parametrize(("number", "has_engine"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_ends_a_start_at_once(server_class, tmp_path, number: int, has_engine: bool) -> None:
    """While libraries are imported, and while vLLM's processes load the model. None of them stays."""
    server = server_class("--kv-cache-gib", "1", log=tmp_path / "log")
    until_it_logs(server, "loading vLLM")
    if has_engine:
        while not server.descendants():
            time.sleep(0.1)
        time.sleep(3)
    family = server.descendants()
    started = time.monotonic()
    server.process.send_signal(number)
    assert server.process.wait(30) == 0
    assert time.monotonic() - started < 5
    assert not family or ended(family, 60)
    assert "Traceback" not in server.log.read_text(errors="replace")
