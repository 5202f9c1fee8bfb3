"""Labels for verifiers: of whole answers by what is right, of steps by how often they are continued to what is right."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.training.data import Question, digest
from adapters.training.distilling import Judge, verdicts
from adapters.training.sampling import Answer, Samples
from adapters.training.verifier_training import Labelled

SEPARATOR = "\n"
"""Ends a step, as in the server's searches."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first steps of an answer, to be continued."""

    question: Question
    text: str

    @property
    def key(self) -> str:
        """Names it in a file of samples."""
        return digest([self.question.key, self.text])

    def prompt(self, tokenizer: Any) -> list[int]:
        """What is continued, as token ids."""
        said = [message.model_dump() for message in self.question.messages]
        before: list[int] = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
        return [*before, *tokenizer.encode(self.text, add_special_tokens=False)]


async def outcomes(questions: Sequence[Question], samples: Mapping[str, Samples], judge: Judge) -> list[Labelled]:
    """Each different answer once, labelled 1 or 0. An answer that was cut is none: it is not what a verifier is asked about."""
    labelled = []
    for question, found_right in zip(questions, await verdicts(questions, samples, judge), strict=True):
        answers = samples[question.key].answers
        found = {
            answer.text.strip(): float(is_right)
            for answer, is_right in zip(answers, found_right, strict=True)
            if answer.is_whole
        }
        labelled += [Labelled(_asked(question), text, label, question.key) for text, label in found.items()]
    return labelled


def beginnings(questions: Sequence[Question], samples: Mapping[str, Samples], most: int) -> list[Beginning]:
    """Of each different answer at most so many beginnings of whole steps, spread over it; the whole answer is not among them."""
    found: dict[str, Beginning] = {}
    for question in questions:
        for answer in samples[question.key].answers:
            lines = answer.text.strip().split(SEPARATOR)
            ends = range(1, len(lines))
            step = max(1, -(-len(ends) // most))
            for end in ends[::step]:
                beginning = Beginning(question, SEPARATOR.join(lines[:end]) + SEPARATOR)
                found[beginning.key] = beginning
    return list(found.values())


async def steps(begun: Sequence[Beginning], samples: Mapping[str, Samples], judge: Judge) -> list[Labelled]:
    """Each beginning with the share of its continuations that are right: soft labels."""

    async def label(beginning: Beginning) -> Labelled:
        answers = [Answer(beginning.text + one.text, one.is_whole) for one in samples[beginning.key].answers]
        share = sum(await judge.judge(beginning.question, answers)) / len(answers)
        return Labelled(_asked(beginning.question), beginning.text.strip(), share, beginning.question.key)

    return list(await asyncio.gather(*(label(beginning) for beginning in begun if samples[beginning.key].answers)))


def held_out(labelled: Sequence[Labelled], share: float) -> tuple[list[Labelled], list[Labelled]]:
    """(to learn, to watch): whole questions on either side, by their hash, so that the split is the same at every start."""
    watched = [one for one in labelled if int(one.group, 16) % 1000 < 1000 * share]
    return [one for one in labelled if int(one.group, 16) % 1000 >= 1000 * share], watched


def _asked(question: Question) -> str:
    """The last user message: what the server calls the question."""
    return next(message.content for message in reversed(question.messages) if message.role == "user")
