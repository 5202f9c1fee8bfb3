"""Answers of a model to many questions, several each, kept as they come: whoever stops it loses nothing of what is there.

Samples are JSON lines, one for each question: `{"key": …, "answers": [{"text", "is_whole"}…], "tokens": …, "flops": …, "how": …}`.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from adapters.concurrency import each
from adapters.disk import append_line, whole_lines
from adapters.training.errors import DataRefused, TeacherGone, Unanswerable


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `is_whole` when the model ended it by itself."""

    text: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """Answers to one question, with what they cost.

    Attributes:
        flops: None where the model does not tell.
        how: digest of everything but the question that decides what is answered, in a file.

    """

    key: str
    answers: tuple[Answer, ...]
    tokens: int
    flops: int | None = None
    how: str = ""


class Asked(Protocol):
    """What can be asked; its key names it in a file of samples."""

    @property
    def key(self) -> str: ...


A = TypeVar("A", bound=Asked)

Sampler = Callable[[A, int, int], Awaitable[Samples]]
"""Asks a model: (what, n, seed) -> n answers, drawn together.

Raises `Unanswerable` when it refuses this question, `TeacherGone` when it has stopped answering for good.
"""


class Kept:
    """Samples in a file.

    A last line that was cut by a kill is taken away, so that what is appended stands on a line of its own. Raises `DataRefused` for
    a file that holds something else.

    Args:
        path: of the file, which need not be there yet.
        how: names everything but the question that decides what is answered; samples of another `how` are left where they are.

    Attributes:
        path: as given.
        known: samples by the key of their question.

    """

    def __init__(self, path: Path, how: str) -> None:
        self.path = path
        self._how = how
        self.known = {samples.key: samples for samples in _read(path) if samples.how == how}

    def add(self, samples: Samples) -> None:
        """To the file, at once."""
        samples = self.known[samples.key] = replace(samples, how=self._how)
        append_line(self.path, json.dumps(asdict(samples)))


async def collect(
    questions: Sequence[A],
    sampler: Sampler[A],
    kept: Kept,
    *,
    n: int,
    seed: int,
    at_once: int,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Samples]:
    """Samples of all questions by key: those that are kept already, and the rest, kept one by one.

    The seed of a question depends on its place only, so that a run that was stopped draws what it would have drawn. A question that is
    refused has no answers. Raises what the sampler raises; `TeacherGone` when nothing but refusals comes.
    """
    wanted = {question.key: question for question in questions}
    missing = [(place, question) for place, question in enumerate(wanted.values()) if question.key not in kept.known]
    refused: set[str] = set()

    async def draw(job: tuple[int, A]) -> None:
        place, question = job
        try:
            kept.add(await sampler(question, n, seed + place * n))
        except Unanswerable as error:
            refused.add(question.key)
            if not kept.known and len(refused) >= min(at_once, len(missing)):
                raise TeacherGone(str(error)) from error
        report(sum(key in kept.known or key in refused for key in wanted), len(wanted))

    await each(missing, draw, at_once)
    for key in refused:  # only now: a server that is set up wrongly refuses all
        kept.add(Samples(key, (), 0, 0))
    return {key: kept.known[key] for key in wanted}


def _read(path: Path) -> Iterable[Samples]:
    for number, line in enumerate(whole_lines(path), 1):
        try:
            fields = json.loads(line)
            answers = tuple(Answer(**answer) for answer in fields.pop("answers"))
            yield Samples(answers=answers, **fields)
        except (ValueError, TypeError, KeyError) as error:
            raise DataRefused(f"{path}, line {number}: these are not samples of ours ({error})") from error
