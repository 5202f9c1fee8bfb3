"""What failed in vLLM's processes is told to the server, and not to the terminal."""

import os
import subprocess
import sys

import pytest

from app.engine.worker.failures import FAILURES, IS_VLLM_SILENT, FailureFile, causes

CHILD = """
import logging
from app.engine.worker.failures import report_failures
report_failures()
report_failures()
logger = logging.getLogger("vllm.v1.engine.core")
logger.warning("of no interest")
logger.error("of interest")
logger.error("Worker proc %s died unexpectedly (exit code: %s), shutting down executor.", "VllmWorker-0", None)
try:
    try:
        int("x")
    except ValueError as error:
        raise RuntimeError("the cause") from error
except RuntimeError:
    logger.exception("EngineCore failed to start.")
    raise
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """`run()` runs a process that fails, and returns its standard error."""
    monkeypatch.delenv(FAILURES, raising=False)

    def child(**variables: str) -> str:
        environment = {**os.environ, **variables}
        return subprocess.run(
            [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=False
        ).stderr

    return child


def test_the_server_reads_what_failed(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each exception with those of which it came, once, in their order."""
    monkeypatch.setenv(FAILURES, "")
    file = FailureFile()
    assert file.read() == []
    run()
    told = ["RuntimeError: the cause", "ValueError: invalid literal for int() with base 10: 'x'"]
    assert file.read() == [told]
    run()
    assert file.read() == [told, told]


def test_a_process_is_quiet_unless_its_log_is_wanted(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vLLM's own log, errors are lines of a text, and nothing has a traceback."""
    monkeypatch.setenv(FAILURES, "")
    file = FailureFile()
    assert run(**{IS_VLLM_SILENT: "0"}) == "of interest\n"
    assert len(file.read()) == 1
    assert "Traceback" in run()


def test_other_programs_are_left_alone(run) -> None:
    """A program that uses vLLM without ponder has tracebacks as always."""
    assert "Traceback" in run(**{IS_VLLM_SILENT: "0"})


def test_a_process_that_a_signal_ended_is_told(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the process that watches it, since it could not tell it itself."""
    monkeypatch.setenv(FAILURES, "")
    monkeypatch.setitem(globals(), "CHILD", CHILD.replace("None)", "-9)").partition("try:")[0])
    file = FailureFile()
    run()
    assert file.read() == [["Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor."]]


def test_causes_are_in_one_list() -> None:
    """An exception that hides another one tells of it only where it came of it."""
    first, second = KeyError("a"), ValueError("b")
    second.__context__ = first
    assert causes(second) == ["ValueError: b", "KeyError: 'a'"]
    second.__suppress_context__ = True
    assert causes(second) == ["ValueError: b"]
    second.__cause__ = second
    assert set(causes(second)) == {"ValueError: b"}
