"""What a student learns of a teacher's answers: the right ones, and of these the shortest.

Long chains of thought hurt small models (Li et al. 2025, arXiv 2502.12143, "learnability gap"), and a short answer
costs less each time that it is given.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.disk import write_whole
from adapters.training.data import DatasetQuestion
from adapters.training.errors import DataRefused
from adapters.training.ports import Grader, Samples


@dataclass(frozen=True, slots=True)
class SelectedAnswers:
    """The answers that are learned.

    Attributes:
        chats: questions with these answers, as JSON values.
        questions: how many were asked.
        solved: how many of them have at least one right answer.
        share_right: of all sampled answers, 0 to 1.

    """

    chats: list[dict[str, object]]
    questions: int
    solved: int
    share_right: float


async def select_answers(
    questions: Sequence[DatasetQuestion], samples: Mapping[str, Samples], grader: Grader, *, keep: int
) -> SelectedAnswers:
    """Select the `keep` shortest different right answers to each question; raises `DataRefused` if there is none."""
    chats: list[dict[str, object]] = []
    solved = num_right = num_answers = 0
    for question, grades in zip(questions, await grade_all(questions, samples, grader), strict=True):
        answers = samples[question.key].answers
        right = [answer.text.strip() for answer, is_right in zip(answers, grades, strict=True) if is_right and answer.is_whole]
        num_answers += len(answers)
        num_right += sum(grades)
        solved += bool(right)
        messages = [message.model_dump() for message in question.messages]
        shortest = sorted(set(right), key=lambda text: (len(text), text))[:keep]  # by text too: the same choice at every start
        chats += [{"messages": [*messages, {"role": "assistant", "content": text}]} for text in shortest]
    if not chats:
        raise DataRefused(f"none of {num_answers} answers to {len(questions)} questions is right: nothing to learn from")
    return SelectedAnswers(chats, len(questions), solved, num_right / num_answers)


async def grade_all(questions: Sequence[DatasetQuestion], samples: Mapping[str, Samples], grader: Grader) -> list[list[bool]]:
    """Return, for each question, whether each of its answers is right."""
    return list(await asyncio.gather(*(grader.grade(question, samples[question.key].answers) for question in questions)))


def write_lines(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    """Write JSON lines; the file is there whole or not at all."""
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))
