"""Questions of a pool, ready to be replayed."""

import random
from dataclasses import dataclass, replace

from app.lab.calibration.pool import Drawn, How, Piece, Sample
from app.lab.calibration.recording import candidate_of
from strategies.core.values import AnswerKind, Candidate, StopReason, Task


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one question.

    Attributes:
        flops: all that is charged, `verified` the verifier's part of it.
        tokens: decoded, by all branches.
        num_drawn: branches that were begun.

    """

    is_right: bool
    flops: int
    verified: int
    tokens: int
    num_drawn: int
    stop_reason: StopReason


GREEDY = -1
"""The place of the greedy answer among the samples."""


class Question:
    """A question of a pool, ready to be replayed often: candidates are made once.

    Attributes:
        task: as a strategy is given it.
        cached: tokens of the prompt that are in the cache once one branch has been through it.

    """

    def __init__(self, drawn: Drawn, how: How) -> None:
        self.drawn = drawn
        self.how = how
        self.cached = max(one.cached for one in (drawn.greedy, *drawn.samples))
        self._candidates: dict[int, Candidate] = {}
        self._given = {later.given: later.given_ids for one in (drawn.greedy, *drawn.samples) for later in one.later}
        self.task = Task(question=drawn.question, prefix=drawn.prefix, kind=AnswerKind(drawn.kind), encode=self._encode)

    def _encode(self, text: str) -> tuple[int, ...]:
        return self._given.get(text, ())  # what is not there was given after the last attempt, and is not gone on from

    def sample(self, place: int) -> Sample:
        """What was drawn."""
        return self.drawn.greedy if place == GREEDY else self.drawn.samples[place]

    def candidate(self, piece: Piece, index: int) -> Candidate:
        """The same as a strategy sees it."""
        known = self._candidates.get(id(piece)) or self._candidates.setdefault(id(piece), candidate_of(piece))
        return replace(known, index=index)

    def order(self, seed: int, num: int) -> list[int]:
        """The places of the first `num` samples in an order of their own for each seed; 0 is that in which they were drawn."""
        order = list(range(num))
        if seed:
            random.Random(f"{self.drawn.key}-{seed}").shuffle(order)  # noqa: S311 - not for secrets
        return order

    def replay_greedy(self) -> Replayed:
        """`direct` at temperature 0."""
        greedy = self.drawn.greedy
        flops = sum(self.how.flops.branch_cost(len(self.drawn.prefix), 0, len(greedy.token_ids)))
        return Replayed(greedy.is_right, flops, 0, len(greedy.token_ids), 1, StopReason.COMPLETED)
