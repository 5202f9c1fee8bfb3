"""Labels for verifiers: whether an answer is right, or how often the continuations of its steps are right."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.digest import digest
from adapters.training.data import DatasetQuestion
from adapters.training.distilling import grade_all
from adapters.training.ports import Answer, Grader, Samples

SEPARATOR = "\n"
"""Ends a step, as in the server's searches over steps."""


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer, or the first steps of one, with how right it is.

    Attributes:
        label: 0 to 1; for a whole answer 0 or 1.
        group: key of the question, in hexadecimal. Answers of one group are never split between training and
            validation.

    """

    question: str
    answer: str
    label: float
    group: str = ""


@dataclass(frozen=True, slots=True)
class PartialAnswer:
    """The first steps of an answer, which a model shall continue. `text` ends with the step separator."""

    question: DatasetQuestion
    text: str

    @property
    def key(self) -> str:
        """Identifies it in a file of samples."""
        return digest([self.question.key, self.text])

    def prompt(self, tokenizer: Any) -> list[int]:
        """Return the token ids that the model continues."""
        messages = [message.model_dump() for message in self.question.messages]
        before: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return [*before, *tokenizer.encode(self.text, add_special_tokens=False)]


async def label_outcomes(
    questions: Sequence[DatasetQuestion], samples: Mapping[str, Samples], grader: Grader
) -> list[LabelledAnswer]:
    """Label each different answer 1 (right) or 0.

    Answers that were cut off get no label: a server never asks a verifier about them.
    """
    labelled = []
    for question, grades in zip(questions, await grade_all(questions, samples, grader), strict=True):
        answers = samples[question.key].answers
        labels = {answer.text.strip(): float(right) for answer, right in zip(answers, grades, strict=True) if answer.is_whole}
        labelled += [LabelledAnswer(_question_text(question), text, label, question.key) for text, label in labels.items()]
    return labelled


def partial_answers(questions: Sequence[DatasetQuestion], samples: Mapping[str, Samples], max_each: int) -> list[PartialAnswer]:
    """Cut each answer after some of its steps: at most `max_each` cuts, spread evenly, never after the last step.

    Equal beginnings of different answers are returned once.
    """
    found: dict[str, PartialAnswer] = {}
    for question in questions:
        for answer in samples[question.key].answers:
            lines = answer.text.strip().split(SEPARATOR)
            cuts = range(1, len(lines))
            stride = max(1, -(-len(cuts) // max_each))  # rounded up
            for cut in cuts[::stride]:
                partial = PartialAnswer(question, SEPARATOR.join(lines[:cut]) + SEPARATOR)
                found[partial.key] = partial
    return list(found.values())


async def label_steps(
    partials: Sequence[PartialAnswer], rollouts: Mapping[str, Samples], grader: Grader
) -> list[LabelledAnswer]:
    """Label each partial answer with the share of its rollouts that are right.

    This is Math-Shepherd's soft estimation (Wang et al. 2023, arXiv 2312.08935).
    """

    async def label(partial: PartialAnswer) -> LabelledAnswer:
        answers = [Answer(partial.text + rollout.text, rollout.is_whole) for rollout in rollouts[partial.key].answers]
        share = sum(await grader.grade(partial.question, answers)) / len(answers)
        return LabelledAnswer(_question_text(partial.question), partial.text.strip(), share, partial.question.key)

    return list(await asyncio.gather(*(label(partial) for partial in partials if rollouts[partial.key].answers)))


def split_by_question(
    labelled: Sequence[LabelledAnswer], validation_share: float
) -> tuple[list[LabelledAnswer], list[LabelledAnswer]]:
    """Return (training, validation) answers.

    Whole questions go to either side, by their hash: the same split at every start.
    """
    validation = [one for one in labelled if int(one.group, 16) % 1000 < 1000 * validation_share]
    return [one for one in labelled if int(one.group, 16) % 1000 >= 1000 * validation_share], validation


def _question_text(question: DatasetQuestion) -> str:
    """Return the last user message, which is what the server fills in for `{question}`."""
    return next(message.content for message in reversed(question.messages) if message.role == "user")
