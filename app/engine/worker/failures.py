"""Tells the server what failed in vLLM's processes: vLLM itself tells it only that one of them failed.

vLLM logs each exception that ends one of its processes. A handler writes its type and message to a file of the server. That file has no
name, so nothing of it stays behind: the processes reach it through /proc.

Below `--log-level debug` this replaces vLLM's own log as well: its warnings at the start and its tracebacks are noise to an operator who
reads the cause in one line.
"""

import json
import logging
import math
import os
import sys
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path

FAILURES = "PONDER_FAILURES"
"""The variable with the path of the server's file, which its children inherit. Without it nothing is written."""

IS_VLLM_SILENT = "VLLM_CONFIGURE_LOGGING"
"""vLLM's variable, "0" where vLLM does not set its log up."""

MAX_BYTES = 1024**2
"""The most that the file takes; a failure is a few hundred bytes."""

_LAST_WORDS = ("failed to start", "fatal error", "WorkerProc failed")
"""Parts of the messages that vLLM logs when the exception ends the process."""

_DEATH = "died unexpectedly"
_BY_SIGNAL = "exit code: -"
"""Parts of the message that vLLM logs when a process that it watches ends. Without a signal, that process told why itself."""


class FailureFile:
    """The exceptions that failed in vLLM's processes, in the order in which they were raised."""

    def __init__(self) -> None:
        """Open the file and name it to the processes that are started from now on."""
        descriptor, name = tempfile.mkstemp()
        Path(name).unlink()
        weakref.finalize(self, os.close, descriptor)
        self._path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        os.environ[FAILURES] = str(self._path)

    def read(self, seconds: float = math.inf) -> list[list[str]]:
        """Return the exceptions of the last `seconds`, each as `causes` writes it."""
        with suppress(OSError), self._path.open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.endswith("\n")]
            return [told for at, told in lines if time.time() - at <= seconds]
        return []


def causes(error: BaseException) -> list[str]:
    """Return an exception and those of which it came, the last raised first, each as "type: message"."""
    found: list[str] = []
    next_one: BaseException | None = error
    while next_one is not None and len(found) < 10:
        found.append(f"{type(next_one).__name__}: {str(next_one)[:4000]}")
        next_one = next_one.__cause__ or (None if next_one.__suppress_context__ else next_one.__context__)
    return found


def report_failures() -> None:
    """Begin to write this process's failures down. Does nothing the second time, and in processes of other programs."""
    logger = logging.getLogger("vllm")
    path = os.environ.get(FAILURES)
    if path is None or any(isinstance(handler, _FailureHandler) for handler in logger.handlers):
        return
    logger.addHandler(_FailureHandler(Path(path)))
    if os.environ.get(IS_VLLM_SILENT) == "0":
        lines = logging.StreamHandler()
        lines.addFilter(lambda record: not record.exc_info and _DEATH not in record.getMessage())  # the server tells these
        logger.addHandler(lines)
        logger.setLevel(logging.ERROR)
        logger.propagate = False


class _FailureHandler(logging.Handler):
    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info and record.exc_info[1]
        message = record.getMessage()
        if error or (_DEATH in message and _BY_SIGNAL in message):
            with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
                if file.tell() < MAX_BYTES:
                    told = causes(error) if error else [message]
                    file.write(json.dumps([time.time(), told]) + "\n")
        if os.environ.get(IS_VLLM_SILENT) == "0" and any(words in message for words in _LAST_WORDS):
            # Python would print the traceback of a process that an exception ends.
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
