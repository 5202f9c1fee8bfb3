"""What a student learns of a teacher: of its answers those that are right, and of these the shortest.

Long chains hurt models this small (Li et al. 2025, arXiv 2502.12143, "learnability gap"), and every token that is not learned is a
token that is not paid for again at each answer.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.disk import write_whole
from adapters.training.data import Question
from adapters.training.errors import DataRefused
from adapters.training.sampling import Answer, Samples


class Judge(Protocol):
    """Knows which answers are right."""

    async def judge(self, question: Question, answers: Sequence[Answer]) -> list[bool]:
        """One verdict each. Without a right answer or a rule, what most of them say is right."""
        ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was kept of the samples.

    Attributes:
        lines: chats to learn, as JSON values.
        solved: questions of which at least one answer is right, of `questions`.
        right: of all answers, the share that is right.

    """

    lines: list[dict[str, object]]
    questions: int
    solved: int
    right: float


async def choose(questions: Sequence[Question], samples: Mapping[str, Samples], judge: Judge, *, keep: int) -> Chosen:
    """The `keep` shortest different right answers of each question; raises `DataRefused` when there are none at all."""
    lines: list[dict[str, object]] = []
    solved = num_right = num_answers = 0
    for question, found in zip(questions, await verdicts(questions, samples, judge), strict=True):
        answers = samples[question.key].answers
        right = [answer.text.strip() for answer, is_right in zip(answers, found, strict=True) if is_right and answer.is_whole]
        num_answers += len(answers)
        num_right += sum(found)
        solved += bool(right)
        said = [message.model_dump() for message in question.messages]
        shortest = sorted(set(right), key=lambda text: (len(text), text))[:keep]
        lines += [{"messages": [*said, {"role": "assistant", "content": text}]} for text in shortest]
    if not lines:
        raise DataRefused(f"none of {num_answers} answers to {len(questions)} questions is right: nothing to learn from")
    return Chosen(lines, len(questions), solved, num_right / num_answers)


async def verdicts(questions: Sequence[Question], samples: Mapping[str, Samples], judge: Judge) -> list[list[bool]]:
    """On all answers to each question."""
    return list(await asyncio.gather(*(judge.judge(question, samples[question.key].answers) for question in questions)))


def write_lines(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    """As JSON lines; whole or not at all."""
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))
