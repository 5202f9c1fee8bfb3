"""Which answers are right: by the answer that the data has, by a rule, or by what most of them say. With the server's own readers."""

from collections.abc import Sequence
from typing import cast

from pydantic import TypeAdapter, ValidationError

from adapters.training.data import Question
from adapters.training.errors import DataRefused
from adapters.training.sampling import Answer
from app.routing.kinds import detect_kind
from strategies import verifiers
from strategies.answers.equivalence import Equivalence
from strategies.answers.reading import number_of, read_answer
from strategies.core.errors import StrategyError
from strategies.core.ports import Model
from strategies.core.strategy import StrategyContext
from strategies.core.values import AnswerKind, Candidate, Task

MARK = "####"
"""What stands before a final answer in the data sets that have one."""


class Judging:
    """The `Judge` of training. Closed with `close`: it owns a worker process."""

    def __init__(self) -> None:
        self._equivalence = Equivalence()
        self._tools = StrategyContext(equivalence=self._equivalence, vocab_size=0, reward_models={})

    async def judge(self, question: Question, answers: Sequence[Answer]) -> list[bool]:
        """One verdict each; an answer that was cut is wrong. Raises `DataRefused` for a rule that is none."""
        if question.verifier is not None:
            return await self._by_rule(question, answers)
        kind = kind_of(question)
        read = [read_answer(kind, answer.text) if answer.is_whole else None for answer in answers]
        wanted = read_answer(kind, question.answer) if question.answer is not None else await self._majority(kind, read)
        if wanted is None:
            return [False] * len(answers)
        return [said is not None and await self._equivalence.same(kind, said, wanted) for said in read]

    async def _majority(self, kind: AnswerKind, read: Sequence[str | None]) -> str | None:
        """What more than half of them say, None when there is no such answer."""
        said = [one for one in read if one is not None]
        for one in set(said):
            votes = sum([await self._equivalence.same(kind, one, other) for other in said])
            if 2 * votes > len(read):
                return one
        return None

    async def _by_rule(self, question: Question, answers: Sequence[Answer]) -> list[bool]:
        try:
            choice = _CHOICE.validate_python(question.verifier)
            verifier = verifiers.build(choice, self._tools)
        except (ValidationError, StrategyError) as error:
            raise DataRefused(f"{question.verifier} is no rule that can judge: {error}") from error
        if not verifier.is_exact:
            raise DataRefused(f"{question.verifier} is no rule: it needs a model")
        task = Task(question=question.messages[-1].content, prefix=(), kind=kind_of(question))
        candidates = [
            Candidate(index, answer.text, (), "stop" if answer.is_whole else "length") for index, answer in enumerate(answers)
        ]
        scores = await verifier.score(task, candidates, _NO_MODEL)
        return [score >= 1 for score in scores]

    def close(self) -> None:
        """End the worker process."""
        self._equivalence.close()


_CHOICE: TypeAdapter[verifiers.Choice] = TypeAdapter(verifiers.Choice)
_NO_MODEL = cast(Model, None)
"""Rules ask no model."""


def kind_of(question: Question) -> AnswerKind:
    """As the data says, else as its answer looks, else as the server would guess from the question."""
    if question.kind != "auto":
        try:
            return AnswerKind(question.kind)
        except ValueError as error:
            raise DataRefused(f"`{question.kind}` is no kind of answer; there are {', '.join(AnswerKind)}") from error
    if question.answer is not None:
        final = question.answer.rpartition(MARK)[2]
        return AnswerKind.MATH if number_of(final) is not None else AnswerKind.TEXT
    kind = detect_kind(question.messages[-1].content)
    return AnswerKind.TEXT if kind is AnswerKind.OPEN else kind
