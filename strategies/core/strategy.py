"""What a strategy is: a class with a name, typed parameters and one coroutine. A new one is a file and a line in the registry."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from strategies.core.errors import UnsupportedTask
from strategies.core.ports import AnswerEquivalence, Emit, Model, Verifier
from strategies.core.results import Result
from strategies.core.stopping_rule import StoppingRule
from strategies.core.values import Candidate, StopReason, Task


class Params(BaseModel):
    """Base of the parameters of strategies: unknown ones are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Adapters that the strategy uses besides the one that generates: they are leased with it, for the whole run."""
        return ()


@dataclass(frozen=True, slots=True)
class StrategyContext:
    """What strategies are built with.

    Attributes:
        vocab_size: of the served model, for self-certainty.
        reward_models: verifiers outside the engine, by the names that the operator gave them.
        rule: of the plan, for a strategy that draws in waves.
        watched: puts somebody who looks on in the place of a verifier.

    """

    equivalence: AnswerEquivalence
    vocab_size: int
    reward_models: Mapping[str, Verifier] = field(default_factory=dict)
    rule: StoppingRule | None = None
    watched: Callable[[Verifier], Verifier] = lambda verifier: verifier


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
    verdicts: int = 0


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


def check_choices(name: str, task: Task, available: int, parameter: str) -> None:
    """Raise when the caller wants back more answers than there will be candidates."""
    if task.num_choices > available:
        message = f"{name} cannot return {task.num_choices} of {available} candidates"
        raise UnsupportedTask(message, parameter=parameter)


def ended(model: Model, otherwise: StopReason = StopReason.COMPLETED) -> StopReason:
    """The budget that ran out, else `otherwise`."""
    return model.stopped or otherwise
