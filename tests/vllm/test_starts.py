"""The start of a server: how it is ended, and what it says when it cannot go on."""

import re
import signal
import time

import pytest

from tests.server import ForkedServer, Server, ended

pytestmark = pytest.mark.vllm


def until_it_logs(server: Server, text: str) -> None:
    """Wait for a line of the log."""
    deadline = time.monotonic() + 120
    while text not in server.log.read_text(errors="replace"):
        assert time.monotonic() < deadline, server.log.read_text(errors="replace")
        assert server.process.poll() is None, server.log.read_text(errors="replace")
        time.sleep(0.1)


@pytest.mark.parametrize(("number", "has_engine"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_ends_a_start_at_once(tmp_path, number: int, has_engine: bool) -> None:
    """While libraries are imported, and while vLLM's processes load the model. None of them stays."""
    server = Server("--kv-cache-gib", "1", log=tmp_path / "log")
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
    assert_quiet(server)


def assert_quiet(server: Server) -> None:
    """Every line of the log is one of ponder's: no warnings and tracebacks of vLLM, torch and Python."""
    lines = server.log.read_text(errors="replace").splitlines()
    assert [line for line in lines if not re.match(r"\d\d:\d\d:\d\d [A-Z]+ |ponder: ", line)] == []


def said(server: Server) -> str:
    """The end of a server that does not start: status 1, and one line without a traceback."""
    assert server.process.wait(120) == 1
    assert_quiet(server)
    [line] = [line for line in server.log.read_text(errors="replace").splitlines() if line.startswith("ponder: ")]
    return line


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        (("--tensor-parallel-size", "2"), {}, r"heads \(9\) must be divisible by tensor parallel size \(2\)"),
        (("--max-model-len", "100000"), {}, "8192"),
        (("--kv-cache-gib", "100000"), {}, r"KV cache 100000.*: lower --kv-cache-gib"),
        (("--model", "/nowhere/at-all"), {}, "/nowhere/at-all: there is no such folder"),
        (("--model", "nobody/no-model"), {"HF_HUB_OFFLINE": "1"}, "nobody/no-model: there is no such folder, and"),
        (("--host", "192.0.2.1", "--api-keys", "k"), {}, "cannot listen on 192.0.2.1"),
    ],
)
def test_a_start_that_cannot_go_on_says_why(
    tmp_path, options: tuple[str, ...], variables: dict[str, str], expected: str
) -> None:
    """What is wrong, and with what."""
    assert re.search(expected, said(ForkedServer(*options, log=tmp_path / "log", variables=variables)))


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        # This is found in vLLM's engine process.
        (("--kv-cache-memory-bytes", "20M"), {}, "a context of 8192 tokens needs .* raise --kv-cache-gib"),
        # vLLM looks for a model at another point of the start when the hub is not to be asked, which libraries decide at their import.
        (("--model", "nobody/no-model"), {"HF_HUB_OFFLINE": "0"}, "nobody/no-model: there is no such folder, and"),
    ],
)
def test_a_start_from_the_beginning_says_why(
    tmp_path, options: tuple[str, ...], variables: dict[str, str], expected: str
) -> None:
    """With all imports, in the server and in vLLM's processes."""
    assert re.search(expected, said(Server(*options, log=tmp_path / "log", variables=variables)))
