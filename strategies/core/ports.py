"""The ports of search: what a strategy needs from outside. The service implements them, and tests do with fakes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from strategies.core.results import Progress
from strategies.core.values import AnswerKind, Candidate, Delta, Draw, StopReason, VerifierPrompt

T = TypeVar("T")


Emit = Callable[[Delta | Progress], None]
"""A function to which a strategy reports what happens. It never blocks."""


def ignore_events(_event: Delta | Progress) -> None:
    """Do nothing with the event: the `Emit` of a caller who does not watch."""


class Model(Protocol):
    """What a strategy may ask of the model. Every call is metered and refuses to overspend."""

    def sample(self, draw: Draw) -> AbstractAsyncContextManager[AsyncIterator[Candidate]]:
        """Draw the continuations together; iterate over them as they complete. Nothing is drawn where the context has no room.

        Leaving the context ends the branches that still run, and their tokens are counted. When the budget runs out,
        the iteration ends early: partial candidates (finish reason "abort") are delivered, then `stopped` gives the reason.
        """
        ...

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        """Return the log-probability of each token of `options` as the next one after `prefix`.

        All are 0 where the budget or the context has no room for the call.
        """
        ...

    def spend(self, tokens: int, flops: int) -> bool:
        """Book a verification that was computed elsewhere.

        Returns False, and books nothing, if the budget has no room for it.
        """
        ...

    def using(self, adapter: str) -> "Model":
        """Return the same request's model, with the same budget, but another adapter.

        The adapter must be one of `Params.adapters`. Each adapter of a request keeps one version from the first branch to the last.
        """
        ...

    def asking(self, model: str) -> "OtherModel":
        """Return another model of the server, with the same budget. It must be one of `Params.models`."""
        ...

    @property
    def verifier_prompt(self) -> VerifierPrompt | None:
        """The prompt that the adapter in use was trained with as a verifier; None if it has none."""
        ...

    @property
    def deadline(self) -> float | None:
        """The moment when the request's time is over, on the event loop's clock; None if it has no limit."""
        ...

    @property
    def tokens_left(self) -> int | None:
        """How many tokens may still be generated, what running branches have reserved not among them; None where nothing limits them."""
        ...

    @property
    def stopped(self) -> StopReason | None:
        """The budget that ran out; None while none has."""
        ...


class OtherModel(Model, Protocol):
    """A model of the server besides the one that answers. The tokens of that one mean nothing to it."""

    async def prompt_of(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a conversation in which the user says this text, behind which the model answers without thinking.

        Raises `VerifierFailed` for a text that is longer than its context.
        """
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that continues a prompt."""
        ...


class AnswerEquivalence(Protocol):
    """Tells whether two answers are the same. Implemented by `strategies.answers.equivalence.Equivalence`."""

    async def same(self, kind: AnswerKind, a: str, b: str) -> bool:
        """Return whether two canonical answers of that kind are the same; False if that cannot be decided in time."""
        ...

    async def isolated(self, work: Callable[..., T], *args: Any) -> T:
        """Return what `work` returns, computed in a process that can be killed; raises `TimeoutError` when it takes too long."""
        ...
