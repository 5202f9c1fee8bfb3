"""Fits cascades to the runs of several models on the same questions, and runs cascades on such questions.

A run is what a member does on a question with its own policy, until its stopping rule ends it. Everything is charged with the
member's own arithmetic, the prompt of each member included.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from app.lab.calibration.cross_validation import StoppedTrajectory, cross_validate, direct_flops, stop
from app.lab.calibration.evaluation import performance_of
from app.lab.calibration.fitting import FOLDS, PROMPT_C, Numbers, fit_gain, fit_probability
from app.lab.calibration.observed_questions import ObservedQuestion
from app.request import Effort
from app.routing.cascade import Attempt, GeneralCascade, Member
from app.routing.cascade_file import CascadeFile, CascadeMember, Escalation, escalation_features
from app.routing.difficulty import Difficulty
from app.routing.estimators import Estimator
from app.routing.features import logit, prompt_features
from app.routing.fitted_cascade import FittedCascade
from app.routing.policy_file import PolicyFile

PRICES = (2.0, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.003)
"""The prices that are tried, as the accuracy that the FLOPs of one greedy answer of the dearest member must gain."""

ESCALATION_C = 1.0
"""The inverse regularisation strength of the few features of an escalation."""

NUM_CHANGES = 8
"""The number of equally likely changes of the log-odds that stand for what an answer may show."""

LOW_SHARE, HIGH_SHARE = 1 / 3, 1.0
"""The most that low and high effort may cost, as shares of a greedy answer of the dearest member."""

Runs = Mapping[float, Sequence[Sequence[StoppedTrajectory]]]
"""By the price of a FLOP, the (questions, orders) runs of a member."""


@dataclass(frozen=True, slots=True)
class MeasuredMember:
    """A member with its questions.

    Attributes:
        fields: `model`, `adapter` and `architecture` of `CascadeMember`.
        observed: the questions, the same and in the same order for all members.

    """

    fields: Mapping[str, Any]
    observed: Sequence[ObservedQuestion]

    def of(self, places: NDArray[np.int_]) -> "MeasuredMember":
        """Return the member with the questions at some places."""
        return MeasuredMember(self.fields, [self.observed[place] for place in places])


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


def prices_per_flop(members: Sequence[MeasuredMember]) -> list[float]:
    """Return `PRICES` as the accuracy that a FLOP must gain."""
    unit = max(direct_flops(one.observed) for one in members)
    return [price / unit for price in PRICES]


def held_out_runs(observed: Sequence[ObservedQuestion], prices: Sequence[float]) -> Runs:
    """Return the runs of a member with policies that were fitted to other questions."""
    unit = direct_flops(observed)
    stopped = cross_validate(observed, [price * unit for price in prices]).stopped.values()
    return dict(zip(prices, stopped, strict=True))


def runs_of(policy: PolicyFile, observed: Sequence[ObservedQuestion], prices: Sequence[float]) -> Runs:
    """Return the runs of a member with a policy."""
    difficulties = [policy.prompt_difficulty(prompt_features(one.text)) for one in observed]
    return {
        price: [
            [stop(policy, difficulty, price, trajectory) for trajectory in one.trajectories]
            for one, difficulty in zip(observed, difficulties, strict=True)
        ]
        for price in prices
    }


def fit_cascade(members: Sequence[MeasuredMember], runs: Sequence[Runs], **fields: Any) -> CascadeFile:
    """Fit a cascade.

    Args:
        members: cheapest first.
        runs: of each member, by policies that were not fitted to the question.
        fields: `provenance` and `prices`. Without prices the file holds placeholders.

    """
    texts = [one.text for one in members[0].observed]
    prompts = np.stack([prompt_features(text) for text in texts])
    owners = np.arange(len(texts))
    fitted, before = [], []
    for member, own in zip(members, runs, strict=True):
        wrong = 1 - np.mean([_right(stopped) for stopped in own.values()], axis=0)
        flops = np.mean([[np.mean([one.flops for one in each]) for each in stopped] for stopped in own.values()], axis=0)
        estimator, estimates = fit_probability(prompts, wrong, PROMPT_C, owners, seed=0)
        if_right, if_wrong = _changes(own, estimates)
        fitted.append(
            CascadeMember(
                wrong=estimator,
                log_flops=fit_gain(prompts, np.log(flops)),
                if_right=if_right,
                if_wrong=if_wrong,
                **member.fields,
            )
        )
        before.append(estimates)
    escalations = [
        Escalation(first=first, other=other, wrong=_fit_escalation(runs[first], runs[other], before[first], before[other]))
        for first, other in combinations(range(len(members)), 2)
    ]
    return CascadeFile.model_validate(
        {"provenance": {}, "prices": dict.fromkeys(Effort, 1e-12), "members": fitted, "escalations": escalations, **fields}
    )


def _right(stopped: Sequence[Sequence[StoppedTrajectory]]) -> Numbers:
    """Return the (questions,) share of orders in which the answer is right."""
    return np.array([np.mean([one.right for one in each]) for each in stopped])


def _changes(runs: Runs, before: Numbers) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return equally likely changes of the log-odds of being wrong by looking at the answers: where it is right, where it is wrong."""
    changes, right = [], []
    for stopped in runs.values():
        for each, estimate in zip(stopped, before, strict=True):
            changes += [logit(one.last_difficulty) - logit(estimate) for one in each]
            right += [one.right for one in each]
    return _quantiles(np.array(changes), np.array(right)), _quantiles(np.array(changes), 1 - np.array(right))


def _quantiles(values: Numbers, weights: Numbers) -> tuple[float, ...]:
    """Return weighted quantiles in the middle of equally likely parts; no change where nothing has weight."""
    if weights.sum() <= 0:
        return (0.0,)
    order = np.argsort(values)
    shares = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(shares, (np.arange(NUM_CHANGES) + 0.5) / NUM_CHANGES)
    return tuple(round(float(value), 4) for value in values[order][np.minimum(places, len(values) - 1)])


def _fit_escalation(first: Runs, other: Runs, before: Numbers, other_before: Numbers) -> Estimator:
    rows, wrong, owners = [], [], []
    for price, stopped in first.items():
        target = 1 - _right(other[price])
        for question, each in enumerate(stopped):
            after = np.array([one.last_difficulty for one in each])
            rows.append(escalation_features(before[question], after, other_before[question]))
            wrong += [target[question]] * len(each)
            owners += [question] * len(each)
    return fit_probability(np.concatenate(rows), np.array(wrong), ESCALATION_C, np.array(owners), seed=0)[0]


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
    while (name := policy.choose(text, members, attempts, Effort.MEDIUM, 0.0).member) is not None:
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
