"""Scores by a number that the answer must be."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from strategies.answers.expressions import exact
from strategies.answers.reading import number_of, read_answer
from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import AnswerKind, Candidate, Task
from strategies.core.verifier import StrategyContext, Verifier
from strategies.verifiers.exact import exact_scores


class NumberParams(Params):
    """`{"number": number}`, possibly with a `tolerance`."""

    number: Annotated[str, Field(max_length=100)] | int | float = Field(description='as `"1,234.5"`, `"3/4"` or `42`')
    tolerance: Annotated[int | float, Field(ge=0, description="the largest absolute difference")] = 0


class NumberVerifier(Verifier):
    """1.0 if the final answer is the number. Raises `UnsupportedTask` for a text that is not a number."""

    name = "number"
    summary = "Exact: whether the answer is that number, within a tolerance."
    Params = NumberParams
    is_exact = True
    ranks_steps = False

    def __init__(self, params: NumberParams, context: StrategyContext) -> None:
        super().__init__(params, context)
        number = number_of(params.number) if isinstance(params.number, str) else exact(params.number)
        if number is None:
            raise UnsupportedTask("number is not a number", parameter="verifier")
        self._number = number
        self._tolerance = exact(params.tolerance)

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """Return 1.0 or 0.0 each; 0.5 for an answer that is not complete."""
        return exact_scores(candidates, [self._is_right(task.read(one)) for one in candidates if one.is_complete])

    def _is_right(self, text: str) -> bool:
        answer = read_answer(AnswerKind.MATH, text)
        number = number_of(answer) if answer is not None else None
        return number is not None and abs(number - self._number) <= self._tolerance
