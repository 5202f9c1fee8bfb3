"""What was answered, one JSON line each, written at once: a kill loses the questions under way and nothing else."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.runs import Run
from benchmarks.quality.tasks import Task
from scripts.generate_docs import RESULTS

FOLDER = RESULTS / "quality"
MAX_TEXT = 400
VERSION = 1
"""Raised when questions or their judges change: what was recorded before does not count any more."""


@dataclass(frozen=True)
class Record:
    """One answered question.

    Attributes:
        setup: of the run (see `setup`): a record counts only as long as the run is the same.
        flops: all that the server charged, `saved` what its prefix cache spared.
        tokens: decoded by all branches together; `verified`: read by verifiers.
        seconds: while other questions were under way.
        task: its name, "" in records of a time when each file was of one task; `bin` of the task.

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


def setup(task: Task, run: Run) -> str:
    """A digest of everything but the question that decides what is asked."""
    parts: tuple[Any, ...] = (VERSION, task.prompt, task.answer, task.max_tokens, run.strategy, run.options, run.fields)
    parts += (task.revision,) if task.revision else ()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def shortened(text: str) -> str:
    """The beginning and, since answers stand there, more of the end."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT // 4]} […] {text[-3 * MAX_TEXT // 4 :]}"


def counted(records: Iterable[Record], task: Task, runs: Iterable[Run]) -> dict[str, list[Record]]:
    """Of one task by run, in the order of the questions; nothing of runs and questions that have changed since."""
    setups = {run.name: setup(task, run) for run in runs}
    found: dict[str, dict[int, Record]] = {name: {} for name in setups}
    for record in records:
        if record.task in {"", task.name} and setups.get(record.run) == record.setup:
            found[record.run][record.question] = record
    return {name: [by_number[number] for number in sorted(by_number)] for name, by_number in found.items()}


class Log:
    """The records of one model, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, model: str, task: str) -> "Log":
        """The file of a model and task."""
        return cls(FOLDER / f"{model}-{task}.jsonl")

    def append(self, record: Record) -> None:
        """On the disk when it returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell() and not self._ends_in_newline():
                file.write(b"\n")  # the last start was killed in the middle of a line
            file.write(json.dumps(asdict(record)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self, task: Task, runs: Iterable[Run]) -> dict[str, list[Record]]:
        """Those that count, by run."""
        return counted(self.records(), task, runs)

    def records(self) -> Iterator[Record]:
        """All of them, but for a line that was cut."""
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
