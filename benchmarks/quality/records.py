"""Records of answers, one JSON line each. A line is written at once, so a kill loses only the questions in progress."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.runs import Run
from benchmarks.quality.tasks import Task
from benchmarks.report import RESULTS

FOLDER = RESULTS / "quality"
MAX_TEXT = 400

FORMER_NAMES = {"filter": "veto"}
"""Options that were renamed. The digest of a run has their former names, so that its older records still count."""

VERSION = 1
"""Raised when questions or their checks change. Older records do not count any more."""


@dataclass(frozen=True)
class Record:
    """One answered question.

    Attributes:
        setup: a digest of the run (see `setup`). A record counts only while the run is the same.
        flops: all that the server charged.
        saved: FLOPs that the prefix cache saved.
        tokens: decoded by all branches together.
        verified: tokens that verifiers read.
        seconds: with other questions in progress.
        task: its name; "" in old records, when each file had one task.
        bin: of the task.
        thinking: decoded tokens that are thinking, of all branches.

    """

    run: str
    setup: str
    question: int
    seed: int
    is_right: bool
    text: str
    flops: int
    saved: int
    tokens: int
    verified: int
    seconds: float
    stop_reason: str
    task: str = ""
    bin: int = 0
    thinking: int = 0


def setup(task: Task, run: Run) -> str:
    """Return a digest of everything in the request but the question."""
    options = {FORMER_NAMES.get(name, name): value for name, value in run.options.items()}
    parts: tuple[Any, ...] = (VERSION, task.prompt, task.answer, task.max_tokens, run.strategy, options, run.fields)
    parts += (task.revision,) if task.revision else ()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def shortened(text: str) -> str:
    """Return the beginning of a text and more of its end, where answers stand."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT // 4]} […] {text[-3 * MAX_TEXT // 4 :]}"


def counted(records: Iterable[Record], task: Task, runs: Iterable[Run]) -> dict[str, list[Record]]:
    """Return the records of one task by run, in the order of the questions. Records of runs that have changed since do not count."""
    setups = {run.name: setup(task, run) for run in runs}
    found: dict[str, dict[int, Record]] = {name: {} for name in setups}
    for record in records:
        if record.task in {"", task.name} and setups.get(record.run) == record.setup:
            found[record.run][record.question] = record
    return {name: [by_number[number] for number in sorted(by_number)] for name, by_number in found.items()}


class Log:
    """The file with the records of one model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, model: str, task: str) -> "Log":
        """Return the log of a model and task."""
        return cls(FOLDER / f"{model}-{task}.jsonl")

    def append(self, record: Record) -> None:
        """Write a record. It is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell() and not self._ends_in_newline():
                file.write(b"\n")  # the last start was killed in the middle of a line
            file.write(json.dumps(asdict(record)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self, task: Task, runs: Iterable[Run]) -> dict[str, list[Record]]:
        """Return the records that count, by run."""
        return counted(self.records(), task, runs)

    def records(self) -> Iterator[Record]:
        """Yield all records. A line that a kill cut is skipped."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield Record(**json.loads(line))
            except (ValueError, TypeError):
                continue

    def _ends_in_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
