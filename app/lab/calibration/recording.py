"""A `Model` that hands out answers that were drawn, asks for what comes after them, and remembers it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Self

from app.lab.calibration.pool import How, Piece
from strategies.checking.chains import Writer
from strategies.core.values import Candidate, Draw, StopReason, TokenLogprob, VerifierPrompt


@dataclass(frozen=True, slots=True)
class Later:
    """An attempt after the first.

    Attributes:
        said: what it goes on from, and `given` the end of that which the calculator wrote.

    """

    said: Candidate
    given: str
    candidate: Candidate

    @property
    def text(self) -> str:
        """Of the whole answer that ends with it."""
        return self.said.text + self.candidate.text


class Recorder:
    """`strategies.core.ports.Model` for a `Writer`, whose indices tell which answer is gone on with.

    Args:
        first: whole answers, by number.
        go_on: (token ids, tokens that are left, temperature) -> a continuation.

    Attributes:
        writer: whose answers are recorded; to be set before it writes.
        pieces: what came after the first attempts, by number.

    """

    inquiry: VerifierPrompt | None = None
    deadline: float | None = None
    stopped: StopReason | None = None

    def __init__(
        self,
        first: Sequence[Candidate],
        go_on: Callable[[Sequence[int], int, float | None], Awaitable[Candidate]],
        how: How,
    ) -> None:
        self._first = first
        self._go_on = go_on
        self._max_tokens = how.max_tokens
        self.writer: Writer | None = None
        self.pieces: list[list[Later]] = [[] for _ in first]

    @asynccontextmanager
    async def sample(self, draw: Draw) -> AsyncIterator[AsyncIterator[Candidate]]:
        """Those of the first attempts, or one continuation; never cut, so that no rule of cutting is lasting."""
        attempt, number = divmod(draw.first_index, len(self._first))

        async def arrivals() -> AsyncIterator[Candidate]:
            if attempt == 0:
                for index in range(draw.first_index, draw.first_index + draw.n):
                    yield replace(self._first[index], index=index)
                return
            assert self.writer is not None
            [chain] = [one for one in self.writer.chains if one.number == number]
            said, given = chain.said, chain.given
            if (left := self._max_tokens - len(said.token_ids)) > 0:
                new = replace(await self._go_on(draw.prefix, left, draw.temperature), index=draw.first_index)
                self.pieces[number].append(Later(said, given, new))
                yield new

        yield arrivals()

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        """Nobody asks for verdicts."""
        raise NotImplementedError

    def spend(self, tokens: int, flops: int) -> bool:
        """Nobody books any."""
        raise NotImplementedError

    def using(self, adapter: str) -> Self:
        """Nor is there another adapter."""
        raise NotImplementedError


def candidate_of(piece: Piece) -> Candidate:
    """As a strategy sees it."""
    places, place = [], 0
    for length in piece.lengths:
        places.append(piece.text[place : place + length])
        place += length
    tokens = zip(places, piece.token_ids, piece.logprobs, strict=True)
    logprobs = tuple(TokenLogprob(text, token_id, logprob) for text, token_id, logprob in tokens)
    return Candidate(0, piece.text, piece.token_ids, piece.finish_reason, piece.stop_reason, logprobs)
