"""A model that says what it is told, in whatever order it is told to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from strategies.answers import Equivalence
from strategies.base import AnswerKind, Candidate, Delta, StopReason, Task, TokenLogprob
from strategies.strategy import Tools


def candidate(index: int, text: str, *, finish: str = "stop", logprob: float | None = None) -> Candidate:
    """A candidate of one token per word, all with the same log-probability when one is given."""
    words = text.split()
    entries = tuple(TokenLogprob(w, i, logprob, ((w, logprob),)) for i, w in enumerate(words)) if logprob is not None else ()
    return Candidate(index, text, tuple(range(len(words))), finish, logprobs=entries)


@dataclass
class FakeModel:
    """A `Model` over candidates given by index.

    Attributes:
        order: completes the branches of each draw in this order of their positions; the rest follow.
        cut_after: the budget is spent after so many candidates.
        hang: nothing ever completes.

    """

    candidates: Sequence[Candidate]
    order: Sequence[int] = ()
    cut_after: int | None = None
    reason: StopReason = StopReason.TOKENS
    hang: bool = False
    stopped: StopReason | None = None
    num_drawn: int = 0
    num_delivered: int = 0
    num_open: int = 0
    asked_logprobs: list[int | None] = field(default_factory=list)

    @asynccontextmanager
    async def sample(
        self,
        prefix: Sequence[int],
        n: int,
        *,
        first_index: int = 0,
        num_logprobs: int | None = None,
        on_delta: Callable[[Delta], None] | None = None,
    ) -> AsyncIterator[AsyncIterator[Candidate]]:
        self.asked_logprobs.append(num_logprobs)
        self.num_drawn += n
        self.num_open += 1
        try:
            yield self._deliver(list(self.candidates[first_index : first_index + n]), on_delta)
        finally:
            self.num_open -= 1

    async def _deliver(self, drawn: list[Candidate], on_delta: Callable[[Delta], None] | None) -> AsyncIterator[Candidate]:
        if self.hang:
            await asyncio.Event().wait()
        first = [position for position in self.order if position < len(drawn)]
        for position in [*first, *(p for p in range(len(drawn)) if p not in first)]:
            if self.cut_after is not None and self.num_delivered >= self.cut_after:
                self.stopped = self.reason
                return
            await asyncio.sleep(0)
            self.num_delivered += 1
            one = drawn[position]
            if on_delta is not None:
                on_delta(Delta(one.index, one.text, one.token_ids, one.logprobs, one.finish_reason))
            yield one

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        return [0.0] * len(options)


@pytest.fixture
def make():
    """`make(*texts, **of_the_model)`: a fake model that answers these texts."""

    def model(*texts: str | Candidate, **fields: object) -> FakeModel:
        made = [candidate(i, one) if isinstance(one, str) else one for i, one in enumerate(texts)]
        return FakeModel(made, **fields)

    return model


@pytest.fixture
def says():
    """`says(index, text, finish=…, logprob=…)`: one candidate."""
    return candidate


@pytest.fixture
def task():
    """`task(kind, num_choices)`: a task."""

    def of(kind: AnswerKind = AnswerKind.MATH, num_choices: int = 1) -> Task:
        return Task(question="?", prefix=(1, 2, 3), kind=kind, num_choices=num_choices)

    return of


@pytest.fixture
def tools():
    """Tools with an equivalence whose worker is closed at the end."""
    equivalence = Equivalence()
    yield Tools(equivalence, vocab_size=1000)
    equivalence.close()
