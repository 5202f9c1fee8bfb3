"""What a strategy is: a class with a name, typed parameters and one coroutine. A new one is a file and a line in the registry."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from strategies.core.parameters import Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Result
from strategies.core.values import Candidate, StopReason, Task
from strategies.core.verifier import StrategyContext


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run is expected to take when nothing ends it early.

    Attributes:
        branches: number of calls that generate.
        tokens: number of tokens that these generate together.
        rounds: number of calls that must wait for one another, because each needs the result of the one before.
        verifier_calls: number of calls that score.

    """

    branches: int
    tokens: int
    rounds: int = 1
    verifier_calls: int = 0


NO_WIN = "no win found over a vote at equal FLOPs"
"""The `comparison` of strategies that `auto` must not choose."""

P = TypeVar("P", bound=Params)


class Strategy(ABC, Generic[P]):
    """One way to spend compute on a task.

    Attributes:
        name: by which requests choose it.
        summary: one sentence for the documentation.
        comparison: what was measured of it against a vote at equal FLOPs, for the documentation; empty where nothing was.
        temperature: used when the caller gives none; None marks a strategy that does not compare samples.
        is_stepwise: an answer is generated in several calls, each continuing the one before it.
        Params: its parameters, from which the API's validation and the documentation are made.

    """

    name: ClassVar[str]
    summary: ClassVar[str]
    comparison: ClassVar[str] = ""
    temperature: ClassVar[float | None] = 0.7  # Adaptive-Consistency, ESC and CISC all sample at 0.7
    is_stepwise: ClassVar[bool] = False
    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: P, context: StrategyContext) -> None:
        self.params = params
        self.context = context

    @abstractmethod
    def width(self, num_choices: int) -> int:
        """Return the most branches that run at once; admission counts them before the run."""

    def check(self, task: Task) -> None:
        """Raise `UnsupportedTask` for what the parameters cannot honour; called before anything is generated."""

    @abstractmethod
    def forecast(self, task: Task, answer_tokens: int) -> Forecast:
        """Return what answering the task would cost if an answer had so many tokens and nothing ended the search early."""

    @abstractmethod
    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Answer the task.

        Whatever ends the run, every branch that it started is ended too. When a budget is spent, the best answer so far is returned.
        """


async def in_order(samples: AsyncIterator[Candidate], first: int = 0) -> AsyncIterator[Candidate]:
    """Yield candidates by index, each as soon as all before it have been yielded; indices that never arrive are skipped at the end.

    A strategy that may stop while candidates arrive must see them in this order. Else short answers would count more, since they
    finish first. The price is that it waits for slow ones.
    """
    waiting: dict[int, Candidate] = {}
    async for candidate in samples:
        waiting[candidate.index] = candidate
        while first in waiting:
            yield waiting.pop(first)
            first += 1
    for index in sorted(waiting):
        yield waiting[index]


def ended(model: Model, otherwise: StopReason = StopReason.COMPLETED) -> StopReason:
    """Return the stop reason: the budget that ran out, else `otherwise`."""
    return model.stopped or otherwise
