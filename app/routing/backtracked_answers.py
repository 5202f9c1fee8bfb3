"""Continues the answers of a pool behind their false lines, as `strategies.checking.chains` does when a server backtracks."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from app.routing.pool_file import Continuation, PoolEntry, PoolSettings
from app.routing.pooled_answers import candidate_of, generation_fields
from app.routing.sample_only import SampleOnly
from strategies.checking.chains import Writer
from strategies.core.ports import ignore_events
from strategies.core.values import AnswerKind, Candidate, Draw, Step, Task

Generate = Callable[[Draw], Awaitable[Candidate | None]]
"""Generates one continuation to its end; None where there is no room for it."""

Encode = Callable[[str], tuple[int, ...]]
"""Returns the token ids of a text."""


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

    def pooled(self, encode: Encode, *, is_right: bool, alternatives: int = 0) -> Continuation:
        """Return it as a pool keeps it; see `app.routing.pooled_answers.generation_fields`."""
        return Continuation(
            **generation_fields(self.candidate, is_right=is_right, alternatives=alternatives),
            kept_tokens=len(self.kept.token_ids),
            inserted=self.inserted,
            inserted_ids=encode(self.inserted) if self.inserted else (),
        )


async def continued(
    entry: PoolEntry, settings: PoolSettings, encode: Encode, generate: Generate
) -> list[list[RecordedContinuation]]:
    """Return what follows the greedy answer and each of the first samples, as many of both as backtrack in the pool."""
    answers = entry.answers[: 1 + settings.backtracked]
    task = Task(question=entry.question, prefix=entry.prefix, kind=AnswerKind(entry.kind), encode=encode)
    continuer = AnswerContinuer([candidate_of(one) for one in answers], generate, settings.max_tokens)
    writer = Writer(task, continuer, ignore_events, max_chains=len(answers), first_temperature=0.0)
    await continuer.record(writer, settings.attempts)
    return continuer.continuations


def with_continuations(entry: PoolEntry, continuations: Sequence[Sequence[Continuation]]) -> PoolEntry:
    """Return an entry whose greedy answer and first samples have these continuations."""
    greedy, *samples = [
        answer.model_copy(update={"continuations": tuple(each)})
        for answer, each in zip(entry.answers, continuations, strict=False)  # further samples do not backtrack
    ]
    return entry.model_copy(update={"greedy": greedy, "samples": (*samples, *entry.samples[len(samples) :])})


class AnswerContinuer(SampleOnly):
    """`strategies.core.ports.Model` for a `Writer`, whose candidate indices tell which answer is continued.

    Args:
        first: complete answers, by their number: the first attempts.
        generate: draws the continuations.
        max_tokens: the most that an answer may have.

    Attributes:
        continuations: what followed each first attempt, by the number of the answer.

    """

    def __init__(self, first: Sequence[Candidate], generate: Generate, max_tokens: int) -> None:
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
            candidate = await self._generate(replace(draw, max_tokens=max_tokens, step=Step()))
            if candidate is not None:
                self.continuations[number].append(RecordedContinuation(kept, inserted, candidate))
                yield replace(candidate, index=draw.first_index)
