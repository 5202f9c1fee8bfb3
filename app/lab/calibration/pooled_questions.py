"""Questions of a pool, prepared for many replays."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.lab.calibration.pool import PoolRefused
from app.routing.pool_file import Continuation, Generation, PoolEntry, PoolSettings, Sample
from app.routing.pooled_answers import candidate_of
from strategies.core.values import AnswerKind, Candidate, StopReason, Task


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """The outcome of a replay on one question.

    Attributes:
        right: the probability that the answer is right, 0 or 1 where that is known.
        flops: the FLOPs of all branches and verifiers.
        verified: the FLOPs of the verifiers among them.
        tokens: the number of tokens that all branches decoded.
        num_drawn: the number of branches that were begun.

    """

    right: float
    flops: int
    verified: int
    tokens: int
    num_drawn: int
    stop_reason: StopReason


GREEDY = -1
"""The place of the greedy answer among the samples."""


class PooledQuestion:
    """A question of a pool, prepared for many replays: its candidates are made once.

    Args:
        entry: the question with its answers.
        settings: of the pool.
        labels: the probability that it is right of each of `entry.generations`; by default 0 or 1, as they were graded.

    Raises:
        PoolRefused: there are no labels, and the answers were not graded.

    Attributes:
        task: as a strategy receives it.
        cached: the number of the prompt's tokens that are in the prefix cache once one branch has prefilled it.

    """

    def __init__(self, entry: PoolEntry, settings: PoolSettings, labels: Sequence[float] | None = None) -> None:
        if labels is None and not settings.is_labelled:
            raise PoolRefused("the answers of this pool were sampled with --unlabelled, so it is not known which are right")
        graded = [float(one.is_right) for one in entry.generations]
        self._right = {
            id(one): right for one, right in zip(entry.generations, graded if labels is None else labels, strict=True)
        }
        self.entry = entry
        self.settings = settings
        self.cached = max(one.cached for one in entry.answers)
        self._candidates: dict[int, Candidate] = {}
        self._inserted = {one.inserted: one.inserted_ids for answer in entry.answers for one in answer.continuations}
        self._thinking = None if entry.thinking is None else entry.thinking.thinking
        self.task = Task(
            question=entry.question, prefix=entry.prefix, kind=AnswerKind(entry.kind), thinking=self._thinking, read=self._read,
            encode=self._encode,
        )  # fmt: skip

    def _encode(self, text: str) -> tuple[int, ...]:
        # an unknown text was inserted after the last recorded attempt, and no attempt continues it
        return self._inserted.get(text, ())

    def _read(self, candidate: Candidate) -> str:
        return candidate.text if self._thinking is None else self._thinking.split(candidate.text)[1] or ""

    def sample(self, place: int) -> Sample:
        """Return the answer at a place, `GREEDY` or a sample's."""
        return self.entry.greedy if place == GREEDY else self.entry.samples[place]

    def right(self, generation: Generation) -> float:
        """Return the probability that the answer which ends with a generation is right."""
        return self._right[id(generation)]

    def candidate(self, generation: Generation, index: int) -> Candidate:
        """Return a generation of this question as a strategy sees it, with an index."""
        known = self._candidates.get(id(generation)) or self._candidates.setdefault(id(generation), self._made(generation))
        return replace(known, index=index)

    def _made(self, generation: Generation) -> Candidate:
        # the thinking of a continuation began in what it continues
        is_thinking = not isinstance(generation, Continuation) and self.is_thinking(generation.text)
        return replace(candidate_of(generation), is_thinking=is_thinking)

    def is_thinking(self, text: str) -> bool:
        """Return whether the beginning of an answer ends inside its thinking."""
        return self._thinking is not None and self._thinking.is_inside(text)

    def order(self, seed: int, num: int) -> list[int]:
        """Return the places of the first `num` samples, shuffled by the seed. Seed 0 keeps the order of the pool."""
        order = list(range(num))
        if seed:
            random.Random(f"{self.entry.key}-{seed}").shuffle(order)  # noqa: S311 - not for secrets
        return order

    def replay_greedy(self) -> ReplayOutcome:
        """Return the outcome of `direct` at temperature 0, which is the greedy answer of the pool."""
        greedy = self.entry.greedy
        flops = sum(self.settings.flops.branch_cost(len(self.entry.prefix), 0, len(greedy.token_ids)))
        return ReplayOutcome(self.right(greedy), flops, 0, len(greedy.token_ids), 1, StopReason.COMPLETED)
