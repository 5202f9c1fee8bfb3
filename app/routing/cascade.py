"""Chooses which model answers: the value of computation across models.

A cascade lets a cheap model answer first, looks at the answer, and asks a dearer model where that is expected to gain more accuracy
than its FLOPs cost (FrugalGPT, Chen et al. 2023, arXiv:2305.05176, with the price of a FLOP in place of fixed thresholds).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.request import Effort
from app.routing.calibrated import price_multiplier
from app.routing.difficulty import Difficulty
from app.routing.features import logit
from strategies.core.stopping_rule import Evidence

CORRELATION = 0.3
"""How much of what one model's answer says about a question holds for another model too, as a share of its change in log-odds."""

RECOGNISED = 0.79
"""The share of wrong answers that are seen to be in doubt, and of right ones that are not: of two normal distributions with an AUROC of
0.87, as that after a first answer, at the threshold where both shares are equal."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model or adapter that may answer.

    Attributes:
        name: under which it is served.
        difficulty: of the question for it, before the first token.
        answer_flops: the FLOPs that one answer of it is expected to take, its prompt included.
        token_flops: the FLOPs that it takes for a token.
        load: of its pool, 0 to 1, at which its FLOPs are dearer.

    """

    name: str
    difficulty: Difficulty
    answer_flops: float
    token_flops: float
    load: float = 0.0

    @property
    def weighted_flops(self) -> float:
        """The FLOPs of an answer, times what the load of its pool makes a FLOP dearer."""
        return price_multiplier(self.load) * self.answer_flops


@dataclass(frozen=True, slots=True)
class Attempt:
    """An answer that a member has given.

    Attributes:
        member: its name.
        difficulty: the estimated probability that the answer is wrong, after it.
        evidence: what the answers showed; None where the member answered without waves.

    """

    member: str
    difficulty: float
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers next.

    Attributes:
        member: its name; None where the best answer so far is given.
        why: the reason, in words for the caller.
        is_last: nobody would be asked after this member, whatever it answers. So its answer can be streamed while it is written.
        price: the accuracy that a FLOP must gain, at which the member's own search stops too; None for that of its own policy.

    """

    member: str | None
    why: str
    is_last: bool = False
    price: float | None = None


class CascadePolicy(Protocol):
    """Chooses who answers next."""

    def knows(self, name: str) -> bool:
        """Return whether it was fitted to the member of this name, so that it tells what nobody else has measured."""
        ...

    def choose(self, question: str, members: Sequence[Member], attempts: Sequence[Attempt], effort: Effort) -> Choice:
        """Return who answers next. Without an attempt it is always somebody.

        Args:
            question: the last message of the user.
            members: those that can answer now, at least one.
            attempts: the answers so far, in order.
            effort: the price of compute that the caller accepts.

        """
        ...


class GeneralCascade:
    """The cascade of models that nobody measured together: it takes their errors to be correlated by `CORRELATION`.

    Args:
        prices: the accuracy that a token of the dearest member must gain, by effort.

    """

    def __init__(self, prices: dict[Effort, float]) -> None:
        self._prices = prices

    def knows(self, name: str) -> bool:  # noqa: ARG002 - the signature of all cascades
        """Return False: it was fitted to nobody."""
        return False

    def choose(
        self,
        question: str,  # noqa: ARG002 - the signature of all cascades
        members: Sequence[Member],
        attempts: Sequence[Attempt],
        effort: Effort,
    ) -> Choice:
        """Return who answers next."""
        price = self._prices[effort] / max(one.token_flops for one in members)
        return self._next(members, attempts[-1], price) if attempts else self._first(members, price)

    def _first(self, members: Sequence[Member], price: float) -> Choice:
        """Return the member whose answer, with the best that may follow it, is worth most."""

        def net(one: Member) -> float:
            return 1 - one.difficulty.probability - price * one.weighted_flops

        def later(one: Member, other: Member) -> float:
            """Return the expected gain of asking another one where the answer of the first turns out to be in doubt."""
            wrong = one.difficulty.probability
            doubt = RECOGNISED * wrong + (1 - RECOGNISED) * (1 - wrong)
            still_wrong = _shifted(other.difficulty.probability, logit(RECOGNISED))
            return RECOGNISED * wrong - doubt * (still_wrong + price * other.weighted_flops)

        def worth(one: Member) -> float:
            dearer = (later(one, other) for other in members if other.answer_flops > one.answer_flops)
            return net(one) + max([0.0, *dearer])

        best = max(members, key=lambda one: (worth(one), -one.answer_flops))
        why = f"difficulty {best.difficulty.probability:.2f} for {best.name}, the best worth of {len(members)}"
        return Choice(best.name, why, is_last=_is_dearest(best, members))

    def _next(self, members: Sequence[Member], last: Attempt, price: float) -> Choice:
        """Return the member that is expected to gain most over the last answer, for its FLOPs."""
        before = {one.name: one for one in members}
        change = 0.0
        if last.member in before:
            change = logit(last.difficulty) - logit(before[last.member].difficulty.probability)

        def gain(one: Member) -> float:
            return last.difficulty - _shifted(one.difficulty.probability, change) - price * one.weighted_flops

        dearer = [one for one in members if last.member in before and one.answer_flops > before[last.member].answer_flops]
        best = max(dearer, key=gain, default=None)
        if best is None or gain(best) <= 0:
            return Choice(
                None, f"difficulty {last.difficulty:.2f} after the answer of {last.member}: no other is worth its FLOPs"
            )
        why = f"difficulty {last.difficulty:.2f} after the answer of {last.member}: {best.name} is worth its FLOPs"
        return Choice(best.name, why, is_last=_is_dearest(best, members))


def _shifted(probability: float, change: float) -> float:
    """Return the probability that a model is wrong where the log-odds of another model have changed by so much."""
    return 1 / (1 + math.exp(-logit(probability) - CORRELATION * change))


def _is_dearest(one: Member, members: Sequence[Member]) -> bool:
    return all(other.answer_flops <= one.answer_flops for other in members)
