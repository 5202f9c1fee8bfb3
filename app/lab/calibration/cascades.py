"""Runs cascades on questions, and builds the one that is written: its prices are chosen on questions that it was not fitted to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from app.lab.calibration.cascade_fitting import fit_cascade
from app.lab.calibration.cascade_runs import MeasuredMember, Runs, held_out_runs, prices_per_flop
from app.lab.calibration.cross_validation import StoppedTrajectory, direct_flops
from app.lab.calibration.evaluation import performance_of
from app.lab.calibration.fitting import FOLDS
from app.request import Effort
from app.routing.cascade import Attempt, GeneralCascade, Member
from app.routing.cascade_file import CascadeFile
from app.routing.difficulty import Difficulty
from app.routing.fitted_cascade import FittedCascade

LOW_SHARE, HIGH_SHARE = 1 / 3, 1.0
"""The most that low and high effort may cost, as shares of a greedy answer of the dearest member."""


@dataclass(frozen=True, slots=True)
class CascadeOutcome:
    """What a cascade did on a question.

    Attributes:
        right: the probability that its answer is right, 0 or 1 where that is known.
        flops: of all members that answered.
        asked: the places of these members, in order.
        answered: the place of the member whose answer is given.

    """

    right: float
    flops: int
    asked: tuple[int, ...]
    answered: int

    @property
    def num_drawn(self) -> int:
        """The number of members that answered."""
        return len(self.asked)


Outcomes = Sequence[Sequence[CascadeOutcome]]
"""Of (questions, orders)."""


def run_cascade(file: CascadeFile, texts: Sequence[str], runs: Sequence[Runs], price: float) -> list[list[CascadeOutcome]]:
    """Return the (questions, orders) outcomes of a cascade at a price of a FLOP.

    Args:
        file: the cascade.
        texts: (questions,) the last messages of the user.
        runs: of each member.
        price: one of the prices of the runs.

    """
    file = file.model_copy(update={"prices": dict.fromkeys(Effort, price)})
    names = [str(place) for place in range(len(file.members))]
    policy = FittedCascade(file, {name: place for place, name in enumerate(names)}, GeneralCascade({}))
    members = [Member(name, Difficulty(0.5, 0, 1, "calibrated"), 1.0, 1.0) for name in names]
    return [
        [_run_one(policy, text, members, each) for each in zip(*(one[price][question] for one in runs), strict=True)]
        for question, text in enumerate(texts)
    ]


def _run_one(policy: FittedCascade, text: str, members: Sequence[Member], runs: Sequence[StoppedTrajectory]) -> CascadeOutcome:
    attempts: list[Attempt] = []
    while (name := policy.choose(text, members, attempts, Effort.MEDIUM).member) is not None:
        attempts.append(Attempt(name, runs[int(name)].last_difficulty))
    asked = tuple(int(one.member) for one in attempts)
    best = int(min(attempts, key=lambda one: one.difficulty).member)
    return CascadeOutcome(runs[best].right, sum(runs[place].flops for place in asked), asked, best)


def build_cascade(members: Sequence[MeasuredMember], **fields: Any) -> tuple[CascadeFile, Mapping[float, Outcomes]]:
    """Return a cascade that was fitted to all questions, and the outcomes of cascades that were not fitted to the question.

    Args:
        members: at least two.
        fields: of the file.

    """
    prices = prices_per_flop(members)
    runs = [held_out_runs(one.observed, prices) for one in members]
    texts = [one.text for one in members[0].observed]
    outcomes: dict[float, list[list[CascadeOutcome]]] = {price: [[] for _ in texts] for price in prices}
    for fitted_to, held_out in KFold(FOLDS, shuffle=True, random_state=2).split(np.arange(len(texts))):
        part = [one.of(fitted_to) for one in members]
        file = fit_cascade(part, [_part(one, fitted_to) for one in runs])
        rest = [_part(one, held_out) for one in runs]
        for price in prices:
            found = run_cascade(file, [texts[place] for place in held_out], rest, price)
            for place, each in zip(held_out, found, strict=True):
                outcomes[price][place] = each
    chosen = prices_of_efforts(outcomes, max(direct_flops(one.observed) for one in members))
    return fit_cascade(members, runs, prices=chosen, **fields), outcomes


def _part(runs: Runs, places: NDArray[np.int_]) -> Runs:
    return {price: [stopped[place] for place in places] for price, stopped in runs.items()}


def prices_of_efforts(outcomes: Mapping[float, Outcomes], unit: float) -> dict[Effort, float]:
    """Choose the prices of the efforts among those that were tried.

    Low and high effort: the most accurate price that costs at most `LOW_SHARE` and `HIGH_SHARE` of the unit; the highest price where
    all cost more. Medium effort: the price nearest to the geometric mean of both.

    Args:
        outcomes: (questions, orders) of them at each price.
        unit: the FLOPs of a greedy answer of the dearest member.

    """
    performances = {price: performance_of(f"{price}", each) for price, each in outcomes.items()}

    def most_accurate(share: float) -> float:
        cheap = [price for price, one in performances.items() if one.flops.mean() <= share * unit]
        return max(cheap, key=lambda price: (performances[price].mean, price), default=max(performances))

    low, high = most_accurate(LOW_SHARE), most_accurate(HIGH_SHARE)
    middle = math.sqrt(low * high)
    medium = min(performances, key=lambda price: abs(math.log(price / middle)))
    return {Effort.LOW: low, Effort.MEDIUM: medium, Effort.HIGH: high}
