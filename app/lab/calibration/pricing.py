"""From trajectories to a policy: prices, bins, and what all of it is worth on questions that it was not fitted to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import KFold

from app.lab.calibration.fitting import FOLDS, Fitted, Observed, fit
from app.lab.calibration.trajectories import Stage as Seen
from app.request import Effort
from app.routing.features import prompt_features
from app.routing.policy_file import NUM_BINS, Bin, ExpectedGain, PolicyFile, Stage
from app.routing.stopping_rule import ValueOfComputationRule
from strategies.core.values import AnswerKind

WORTH = (0.3, 0.1, 0.05, 0.03, 0.02, 0.015, 0.01, 0.007, 0.005, 0.003, 0.002, 0.001, 0.0005)
"""Prices that are tried, as the accuracy that one more answer must bring."""

ALWAYS = 0.95
"""Share of the questions of a bin that end with their first answer as it is, from which on it is streamed as it comes."""

LOW_COST = 1.25
"""Times the cost of a direct answer that low effort may have."""

SHARE = 0.25
"""Of the cost of the largest fixed plans that high effort may have."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Where a rule ended on one trajectory.

    Attributes:
        num_drawn: branches, attempts to mend among them.
        first: estimated difficulty after the first answer.

    """

    is_right: bool
    flops: int
    num_drawn: int
    first: float


def policy_of(fitted: Fitted, observed: Sequence[Observed], **fields: Any) -> PolicyFile:
    """A policy with these estimators. What is not given is filled with what is never asked."""
    answers = [stage.evidence.answers for stage in observed[0].trajectories[0]]
    stages = tuple(
        Stage(
            answers=num,
            right=right,
            gains=tuple(
                ExpectedGain.model_validate({"stage": later, "expected": gain, "tokens": tokens})
                for later, (gain, tokens) in gains.items()
            ),
        )
        for num, right, gains in zip(answers, fitted.right, fitted.gains, strict=True)
    )
    nothing = Bin(plans=dict.fromkeys(Effort, "adaptive"))
    return PolicyFile(
        **{
            "version": 1, "adapter": None, "provenance": {}, "kinds": frozenset({AnswerKind.MATH}), "before": fitted.before,
            "architecture": {}, "temperature": 0.7, "attempts": 1, "edges": (0.2, 0.4, 0.6, 0.8),
            "flops_per_token": flops_per_token(observed),
            "prices": dict.fromkeys(Effort, 1e-12),
            "stages": stages, "bins": (nothing,) * NUM_BINS, **fields,
        }
    )  # fmt: skip


def flops_per_token(observed: Sequence[Observed]) -> float:
    """Of what comes after the first answer."""
    flops, tokens = 0.0, 0.0
    for one in observed:
        for trajectory in one.trajectories:
            first, last = trajectory[0], trajectory[-1]
            flops += last.flops - first.flops
            tokens += last.evidence.tokens - first.evidence.tokens
    return flops / tokens if tokens else direct_flops(observed)


def direct_flops(observed: Sequence[Observed]) -> float:
    """Mean of a greedy answer."""
    return float(np.mean([one.direct.flops for one in observed]))


def end(file: PolicyFile, difficulty: float, price: float, trajectory: Sequence[Seen]) -> Ended:
    """Where the rule stops."""
    rule = ValueOfComputationRule(file, difficulty, price)
    first = None
    for stage in trajectory:
        said = rule.next(stage.evidence)
        first = rule.difficulty_after_wave if first is None else first
        if said.answers is None or stage is trajectory[-1]:
            return Ended(stage.is_right, stage.flops, stage.evidence.attempts, first or 0.0)
    raise AssertionError  # a trajectory has a last stage


@dataclass(frozen=True, slots=True)
class Crossed:
    """What was measured out of fold.

    Attributes:
        folds: (questions,) the number of the fold that each is in.
        difficulties: (questions,) from the prompts.
        ended: by worth of an answer, (questions, orders).

    """

    folds: np.ndarray
    difficulties: np.ndarray
    ended: Mapping[float, Sequence[list[Ended]]]

    def of(self, some: np.ndarray) -> "Crossed":
        """Of some of the questions."""
        ended = {price: [one for one, is_in in zip(each, some, strict=True) if is_in] for price, each in self.ended.items()}
        return Crossed(self.folds[some], self.difficulties[some], ended)


def cross(observed: Sequence[Observed], worths: Sequence[float] = WORTH) -> Crossed:
    """Judge each fold by what the others taught."""
    difficulties, folds = np.empty(len(observed)), np.empty(len(observed), dtype=int)
    ended: dict[float, list[list[Ended]]] = {worth: [[] for _ in observed] for worth in worths}
    unit = direct_flops(observed)
    splits = KFold(FOLDS, shuffle=True, random_state=1).split(np.arange(len(observed)))
    for fold, (learned, asked) in enumerate(splits):
        folds[asked] = fold
        some = [observed[place] for place in learned]
        file = policy_of(fit(some), some, model="fold")
        for place in asked:
            one = observed[place]
            difficulties[place] = difficulty = file.prompt_difficulty(prompt_features(one.text))
            for worth in worths:
                ended[worth][place] = [end(file, difficulty, worth / unit, trajectory) for trajectory in one.trajectories]
    return Crossed(folds, difficulties, ended)


def worth_of_efforts(crossed: Crossed, observed: Sequence[Observed], wanted: float, flops_wanted: float) -> dict[Effort, float]:
    """Prices of the three efforts, as the accuracy that one more answer must bring; all of them among those that were tried.

    `wanted` is the accuracy of the most right of the largest fixed plans, `flops_wanted` what the cheapest that is hardly worse takes
    a question. High is the most right of the prices that are as right for at most `SHARE` of that; else the dearest that is as
    right, or the most right of all. Low is the most right that costs little more than one answer. Medium lies between them.
    """
    accuracy = {worth: _mean(ended, "is_right") for worth, ended in crossed.ended.items()}
    flops = {worth: _mean(ended, "flops") for worth, ended in crossed.ended.items()}

    def most_right(some: Sequence[float]) -> float:
        return max(some, key=lambda worth: (accuracy[worth], worth))

    good = [worth for worth in accuracy if accuracy[worth] >= wanted]
    fair = [worth for worth in good if flops[worth] <= SHARE * flops_wanted]
    high = most_right(fair) if fair else max(good, default=most_right(list(accuracy)))
    cheap = [worth for worth in flops if flops[worth] <= LOW_COST * direct_flops(observed) and worth >= high]
    low = most_right(cheap) if cheap else max(flops)
    middle = math.sqrt(low * high)
    medium = min(accuracy, key=lambda worth: abs(math.log(worth / middle)))
    return {Effort.LOW: low, Effort.MEDIUM: medium, Effort.HIGH: high}


def bins_of(difficulties: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """(questions,) numbers from 0, as the server finds them."""
    return np.searchsorted(np.array(edges), difficulties, side="right")


def plans_of(ended: Sequence[Sequence[Ended]], observed: Sequence[Observed], bins: np.ndarray) -> list[str]:
    """For each bin: `direct` where almost all end with their first answer anyway."""
    stays = np.array(
        [np.mean([one.flops == question.direct.flops for one in each]) for each, question in zip(ended, observed, strict=True)]
    )
    shares = [stays[bins == number].mean() if (bins == number).any() else 0.0 for number in range(NUM_BINS)]
    return ["direct" if share >= ALWAYS else "adaptive" for share in shares]


def as_planned(
    ended: Sequence[Sequence[Ended]], observed: Sequence[Observed], bins: np.ndarray, plans: Sequence[str]
) -> list[list[Ended]]:
    """The same where bins that are answered directly end with the greedy answer."""
    return [
        [
            replace(one, is_right=question.direct.is_right, flops=question.direct.flops, num_drawn=1)
            if plans[number] == "direct"
            else one
            for one in each
        ]
        for each, question, number in zip(ended, observed, bins, strict=True)
    ]


def _mean(ended: Sequence[Sequence[Ended]], name: str) -> float:
    return float(np.mean([np.mean([getattr(one, name) for one in each]) for each in ended]))
