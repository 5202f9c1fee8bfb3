"""Grades answers with the server's own readers: by the data set's answer, by a rule, or by the majority."""

from collections.abc import Sequence
from typing import Self, cast

from pydantic import TypeAdapter, ValidationError

from adapters.training.data import DatasetQuestion
from adapters.training.errors import DataRefused
from adapters.training.ports import Answer
from app.routing.kinds import detect_kind
from strategies.answers.equivalence import Equivalence
from strategies.answers.reading import number_of, read_answer
from strategies.core.errors import StrategyError
from strategies.core.ports import Model
from strategies.core.values import AnswerKind, Candidate, Task
from strategies.core.verifier import StrategyContext, VerifierChoice
from strategies.verifiers import AnyVerifier

FINAL_ANSWER_MARK = "####"
"""What stands before the final answer in data sets such as GSM8K, where an answer has its solution."""


class AnswerGrader:
    """The `Grader` of training and calibration. A context manager, which ends its worker process."""

    def __init__(self) -> None:
        self._equivalence = Equivalence()
        self._context = StrategyContext(equivalence=self._equivalence, vocab_size=0, reward_models={})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def grade(self, question: DatasetQuestion, answers: Sequence[Answer]) -> list[bool]:
        """Return whether each answer is right. An answer that was cut off is wrong.

        Raises `DataRefused` for a question whose rule or kind does not exist.
        """
        if question.verifier is not None:
            return await self._by_rule(question, answers)
        kind = kind_of(question)
        values = [read_answer(kind, answer.text) if answer.is_whole else None for answer in answers]
        reference = read_answer(kind, question.answer) if question.answer is not None else await self._majority(kind, values)
        if reference is None:
            return [False] * len(answers)
        return [value is not None and await self._equivalence.same(kind, value, reference) for value in values]

    async def _majority(self, kind: AnswerKind, values: Sequence[str | None]) -> str | None:
        """Return the value of more than half of all answers, None when there is no such value."""
        readable = [value for value in values if value is not None]
        for value in set(readable):
            votes = sum([await self._equivalence.same(kind, value, other) for other in readable])
            if 2 * votes > len(values):
                return value
        return None

    async def _by_rule(self, question: DatasetQuestion, answers: Sequence[Answer]) -> list[bool]:
        try:
            verifier = _CHOICE.validate_python(question.verifier).build(self._context)
        except (ValidationError, StrategyError) as error:
            raise DataRefused(f"{question.verifier} is not a rule that can grade: {error}") from error
        if not verifier.is_exact:
            raise DataRefused(f"{question.verifier} is not a rule: it needs a model")
        task = Task(question=question.messages[-1].content, prefix=(), kind=kind_of(question))
        candidates = [
            Candidate(index, answer.text, (), "stop" if answer.is_whole else "length") for index, answer in enumerate(answers)
        ]
        scores = await verifier.score(task, candidates, _NO_MODEL)
        return [score >= 1 for score in scores]

    def close(self) -> None:
        """End the worker process, which compares mathematical expressions."""
        self._equivalence.close()


_CHOICE: TypeAdapter[VerifierChoice] = TypeAdapter(AnyVerifier)
_NO_MODEL = cast(Model, None)
"""Stands in for the model, which a verifier's interface requires. A rule never calls it."""


def kind_of(question: DatasetQuestion) -> AnswerKind:
    """Return the kind of the answers to a question.

    It is what the data set says, else what its answer looks like, else what the server would guess from the question.

    An open question is graded as text. Raises `DataRefused` for a kind that does not exist.
    """
    if question.kind != "auto":
        try:
            return AnswerKind(question.kind)
        except ValueError as error:
            raise DataRefused(f"`{question.kind}` is not a kind of answer; there are {', '.join(AnswerKind)}") from error
    if question.answer is not None:
        final = question.answer.rpartition(FINAL_ANSWER_MARK)[2]
        return AnswerKind.MATH if number_of(final) is not None else AnswerKind.TEXT
    kind = detect_kind(question.messages[-1].content)
    return AnswerKind.TEXT if kind is AnswerKind.OPEN else kind
