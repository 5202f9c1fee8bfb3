"""The ports of search: what a strategy needs from outside. The service implements them, and tests do with fakes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from strategies.core.results import Progress
from strategies.core.values import AnswerKind, Candidate, Delta, Draw, StopReason, VerifierPrompt

T = TypeVar("T")


Emit = Callable[[Delta | Progress], None]
"""Where a strategy reports; never blocks."""


def ignore_events(_event: Delta | Progress) -> None:
    """The `Emit` of a caller who does not watch."""


class Model(Protocol):
    """What a strategy may ask of the model. Every call is metered and refuses to overspend."""

    def sample(self, draw: Draw) -> AbstractAsyncContextManager[AsyncIterator[Candidate]]:
        """Draw the continuations together; iterate over them as they complete. Nothing is drawn where the context has no room.

        Leaving the context ends the branches that still run, and their tokens are counted. When the budget runs out,
        the iteration ends early: partial candidates (finish reason "abort") are delivered, then `stopped` gives the reason.
        """
        ...

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        """Log-probability of each token of `options` as the next one after `prefix`; all 0 where budget or context have no room."""
        ...

    def spend(self, tokens: int, flops: int) -> bool:
        """Book a verification that was computed elsewhere; False, and nothing booked, when the budget has no room for it."""
        ...

    def using(self, adapter: str) -> "Model":
        """The same request's model, budget and all, with another adapter: one of those that the strategy's parameters name.

        All adapters of a request are held from its first to its last branch, each at one version.
        """
        ...

    @property
    def verifier_prompt(self) -> "VerifierPrompt | None":
        """How the adapter in use was taught to be asked for its verdict; None when it does not say."""
        ...

    @property
    def deadline(self) -> float | None:
        """When the request's time is over, on the event loop's clock; None for never."""
        ...

    @property
    def stopped(self) -> StopReason | None:
        """The budget that ran out, or None while there is one left."""
        ...


class AnswerEquivalence(Protocol):
    """Tells whether two answers are the same. Implemented by `strategies.answers.equivalence.Equivalence`."""

    async def same(self, kind: AnswerKind, a: str, b: str) -> bool:
        """Whether two canonical answers of that kind are the same; what cannot be decided in time is not the same."""
        ...

    async def isolated(self, work: Callable[..., T], *args: Any) -> T:
        """Return what `work` returns, computed in a process that can be killed; raises `TimeoutError` when it takes too long."""
        ...
