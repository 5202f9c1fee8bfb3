"""What a strategy is: a class with a name, typed parameters and one coroutine. A new one is a file and a line in the registry."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from strategies.core.context import StrategyContext
from strategies.core.parameters import Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Result
from strategies.core.values import Candidate, StopReason, Task


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run is expected to take when nothing ends it early.

    Attributes:
        branches: calls that generate, and `tokens` what they generate together.
        rounds: how often one has to wait for the engine before it can be asked again.
        verdicts: calls that score.

    """

    branches: int
    tokens: int
    rounds: int = 1
    verifier_calls: int = 0


P = TypeVar("P", bound=Params)


class Strategy(ABC, Generic[P]):
    """One way to spend compute on a task.

    Attributes:
        temperature: used when the caller gives none; None marks a strategy that does not compare samples.
        is_stepwise: an answer is generated in several calls, each continuing the one before it.

    """

    name: ClassVar[str]
    summary: ClassVar[str]
    temperature: ClassVar[float | None] = 0.7  # Adaptive-Consistency, ESC and CISC all sample at 0.7
    is_stepwise: ClassVar[bool] = False
    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: P, context: StrategyContext) -> None:
        self.params = params
        self.context = context

    @abstractmethod
    def width(self, num_choices: int) -> int:
        """The most branches that run at once, for admission."""

    def check(self, task: Task) -> None:
        """Raise `UnsupportedTask` for what the parameters cannot honour; called before anything is generated."""

    @abstractmethod
    def forecast(self, task: Task, answer_tokens: int) -> Forecast:
        """What it would take to answer the task, where an answer has so many tokens."""

    @abstractmethod
    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Answer the task. Ends every branch it started, whatever ends it; a spent budget gives the best so far."""


async def in_order(samples: AsyncIterator[Candidate], first: int = 0) -> AsyncIterator[Candidate]:
    """Candidates by index, each as soon as those before it are in; what is missing at the end is skipped.

    Whoever decides while candidates arrive must see them in this order, or short answers, which finish first, would vote first:
    the price is to wait for stragglers.
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
    """The budget that ran out, else `otherwise`."""
    return model.stopped or otherwise
