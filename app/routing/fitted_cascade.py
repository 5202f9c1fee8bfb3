"""Chooses which model answers with a fitted cascade: the value of computation across models that were measured together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.request import Effort
from app.routing.calibrated import price_multiplier
from app.routing.cascade import Attempt, CascadePolicy, Choice, Member
from app.routing.cascade_file import CascadeFile, escalation_features
from app.routing.features import Features, logit, prompt_features

MAX_LOG_FLOPS = 60.0
"""The highest predicted log of FLOPs that is used: a linear model may extrapolate to absurd numbers."""


@dataclass(frozen=True, slots=True)
class _Estimate:
    """What is estimated of a member from the prompt: the probability that it is wrong, and the price of its answer."""

    wrong: float
    price: float


_Estimates = Mapping[int, _Estimate]
"""By the place of the member in the file."""


class FittedCascade:
    """The cascade of members that were measured on the same questions.

    Members that the file does not know are not asked. Where it knows none of them, the fallback chooses.

    Args:
        file: the fitted numbers.
        places: the place in the file of each member, by the name under which it is served.
        fallback: the cascade for other members.

    """

    def __init__(self, file: CascadeFile, places: Mapping[str, int], fallback: CascadePolicy) -> None:
        self._file = file
        self._places = dict(places)
        self._fallback = fallback
        self._escalations = {(one.first, one.other): one.wrong for one in file.escalations}

    def knows(self, name: str) -> bool:
        """Return whether the file has this member."""
        return name in self._places

    def choose(self, question: str, members: Sequence[Member], attempts: Sequence[Attempt], effort: Effort) -> Choice:
        """Return who answers next."""
        here = {self._places[one.name]: one for one in members if one.name in self._places}
        names = {place: one.name for place, one in here.items()}
        if not names or any(one.member not in self._places for one in attempts):
            return self._fallback.choose(question, members, attempts, effort)
        price = self._file.prices[effort]
        features = prompt_features(question)
        estimates = {}
        for place, one in enumerate(self._file.members):
            flops = math.exp(min(one.log_flops(features), MAX_LOG_FLOPS))
            load = here[place].load if place in here else 0.0  # who has answered may be down by now
            estimates[place] = _Estimate(one.wrong(features), price * price_multiplier(load) * flops)
        choice = self._next(attempts[-1], names, estimates) if attempts else self._first(names, estimates)
        return replace(choice, price=price)  # the member's own policy knows the load of its pool

    def _first(self, names: Mapping[int, str], estimates: _Estimates) -> Choice:
        """Return the member whose answer, with the best that may follow it, is worth most."""

        def worth(place: int) -> float:
            one = estimates[place]
            return 1 - one.wrong - one.price + self._expected_gain(place, names, estimates)

        best = max(sorted(names), key=worth)  # the cheapest of equally good ones
        why = f"difficulty {estimates[best].wrong:.2f} for {names[best]}, the best worth of {len(names)} (fitted)"
        return Choice(names[best], why, is_last=best == max(names))

    def _expected_gain(self, first: int, names: Mapping[int, str], estimates: _Estimates) -> float:
        """Return what asking a dearer member is expected to gain once a first one has answered, less its price.

        What its answers will show is not known yet. So this is the mean over what they showed on the questions that were fitted to,
        where it was right and where it was wrong.
        """
        one, member = estimates[first], self._file.members[first]
        changes = np.array(member.if_right + member.if_wrong)
        after = 1 / (1 + np.exp(-logit(one.wrong) - changes))
        gains = [self._gains(first, after, other, estimates) for other in names if other > first]
        best = np.max([np.zeros(len(after)), *gains], axis=0)
        if_right, if_wrong = np.split(best, [len(member.if_right)])
        return float((1 - one.wrong) * if_right.mean() + one.wrong * if_wrong.mean())

    def _gains(self, first: int, after: Features, other: int, estimates: _Estimates) -> Features:
        """Return the accuracy that a dearer member is expected to add to the answer of the first, less its price.

        Args:
            first: the place of the member that has answered.
            after: (cases,) probabilities that it is wrong, once its answers were seen.
            other: the place of the dearer member.
            estimates: from the prompt.

        """
        features = escalation_features(estimates[first].wrong, after, estimates[other].wrong)
        return after - self._escalations[first, other].many(features) - estimates[other].price

    def _next(self, last: Attempt, names: Mapping[int, str], estimates: _Estimates) -> Choice:
        """Return the dearer member that is expected to gain most over the last answer, for its FLOPs."""
        first, after = self._places[last.member], np.array([last.difficulty])
        gains = {other: float(self._gains(first, after, other, estimates)[0]) for other in names if other > first}
        best = max(sorted(gains), key=lambda place: gains[place], default=None)
        seen = f"difficulty {last.difficulty:.2f} after the answer of {last.member}"
        if best is None or gains[best] <= 0:
            return Choice(None, f"{seen}: no other is worth its FLOPs (fitted)")
        why = f"{seen}: {names[best]} is expected to gain {gains[best]:.2f} more than its FLOPs cost (fitted)"
        return Choice(names[best], why, is_last=best == max(names))
