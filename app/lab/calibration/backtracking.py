"""A `Model` that replays the first attempts at answers, generates what follows them, and records it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from app.lab.calibration.sample_only import SampleOnly
from strategies.checking.chains import Writer
from strategies.core.values import Candidate, Draw


@dataclass(frozen=True, slots=True)
class RecordedContinuation:
    """An attempt after the first one.

    Attributes:
        kept: what it continues: the true beginning of the answer, and after it `inserted`.
        inserted: what the calculator wrote, the end of `kept`.
        candidate: what was generated.

    """

    kept: Candidate
    inserted: str
    candidate: Candidate

    @property
    def answer_text(self) -> str:
        """The text of the whole answer that ends with this attempt."""
        return self.kept.text + self.candidate.text


class AnswerContinuer(SampleOnly):
    """`strategies.core.ports.Model` for a `Writer`, whose candidate indices tell which answer is continued.

    Args:
        first: complete answers, by their number: the first attempts.
        generate: (token ids, the most tokens, temperature) -> a continuation.
        max_tokens: the most that an answer may have.

    Attributes:
        continuations: what followed each first attempt, by the number of the answer.

    """

    def __init__(
        self,
        first: Sequence[Candidate],
        generate: Callable[[Sequence[int], int, float | None], Awaitable[Candidate]],
        max_tokens: int,
    ) -> None:
        self._first = first
        self._generate = generate
        self._max_tokens = max_tokens
        self._writer: Writer | None = None
        self.continuations: list[list[RecordedContinuation]] = [[] for _ in first]

    async def record(self, writer: Writer, attempts: int) -> None:
        """Let `writer` write all answers with this model, with at most `attempts` attempts at each answer."""
        self._writer = writer
        await writer.write(len(self._first), attempts)

    @asynccontextmanager
    async def sample(self, draw: Draw) -> AsyncIterator[AsyncIterator[Candidate]]:
        """Yield first attempts, or one continuation.

        They are never cut at a false line. So a later version can replay them, and cut them at the lines that it finds false.
        """
        attempt, number = divmod(draw.first_index, len(self._first))
        yield self._replay_first(draw) if attempt == 0 else self._generate_next(draw, number)

    async def _replay_first(self, draw: Draw) -> AsyncIterator[Candidate]:
        for index in range(draw.first_index, draw.first_index + draw.n):
            yield replace(self._first[index], index=index)

    async def _generate_next(self, draw: Draw, number: int) -> AsyncIterator[Candidate]:
        if self._writer is None:
            raise RuntimeError("`record` was not called")
        [chain] = [one for one in self._writer.chains if one.number == number]
        kept, inserted = chain.kept, chain.inserted
        if (max_tokens := self._max_tokens - len(kept.token_ids)) > 0:
            candidate = replace(await self._generate(draw.prefix, max_tokens, draw.temperature), index=draw.first_index)
            self.continuations[number].append(RecordedContinuation(kept, inserted, candidate))
            yield candidate
