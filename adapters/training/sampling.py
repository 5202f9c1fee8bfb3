"""Answers of a model to many questions, several each, kept as they come: whoever stops it loses nothing of what is there.

Samples are JSON lines, one for each question: `{"key": …, "answers": [{"text", "is_whole"}…], "tokens": …, "flops": …}`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from adapters.training.errors import DataRefused


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `is_whole` when the model ended it by itself."""

    text: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """Answers to one question, with what they cost; `flops` None where the model does not tell."""

    key: str
    answers: tuple[Answer, ...]
    tokens: int
    flops: int | None = None


class Asked(Protocol):
    """What can be asked; its key names it in a file of samples."""

    @property
    def key(self) -> str: ...


A = TypeVar("A", bound=Asked)

Sampler = Callable[[A, int, int], Awaitable[Samples]]
"""Asks a model: (what, n, seed) -> n answers, drawn together. Raises `TeacherGone` when it has stopped answering for good."""


async def collect(
    questions: Sequence[A],
    sampler: Sampler[A],
    path: Path,
    *,
    n: int,
    seed: int,
    at_once: int,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Samples]:
    """Samples of all questions by key: those that `path` has already, and the rest, written to it one by one.

    The seed of a question depends on its place only, so that a run that was stopped draws what it would have drawn.
    """
    known = read_samples(path)
    wanted = {question.key: question for question in questions}
    missing = [(place, question) for place, question in enumerate(wanted.values()) if question.key not in known]
    jobs = iter(missing)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:

        async def work() -> None:
            for place, question in jobs:
                samples = await sampler(question, n, seed + place * n)
                known[question.key] = samples
                file.write(json.dumps(asdict(samples)) + "\n")
                file.flush()
                report(sum(key in known for key in wanted), len(wanted))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(at_once, len(missing))):
                    group.create_task(work())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the first is the cause, the others were cancelled or the same
    return {key: known[key] for key in wanted}


def read_samples(path: Path) -> dict[str, Samples]:
    """What a file holds. A last line that was cut by a kill is taken away, so that what is appended stands on a line of its own."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return {samples.key: samples for samples in _parsed(path, whole.splitlines())}


def _parsed(path: Path, lines: Iterable[bytes]) -> Iterable[Samples]:
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            answers = tuple(Answer(**answer) for answer in fields.pop("answers"))
            yield Samples(answers=answers, **fields)
        except (ValueError, TypeError, KeyError) as error:
            raise DataRefused(f"{path}, line {number}: these are not samples of ours ({error})") from error
