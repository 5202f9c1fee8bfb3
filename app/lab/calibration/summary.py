"""What a policy was worth, in numbers: accuracy and FLOPs of plans with intervals, regret, calibration of both moments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

Z = 1.96
"""Of a 95 % interval."""

RESAMPLED = 200
"""Times that outcomes are drawn, where chance is asked."""


@dataclass(frozen=True, slots=True)
class Worth:
    """A plan on all questions, or on some.

    Attributes:
        accuracy: (questions,) share of orders in which it is right.
        flops: (questions,) mean of the orders; `branches` likewise: all that were drawn.
        n: answers that it may draw, where it is a fixed plan; 0 for others.

    """

    label: str
    accuracy: Numbers
    flops: Numbers
    branches: Numbers
    n: int = 0

    def of(self, some: NDArray[np.bool_]) -> "Worth":
        """On some of the questions."""
        return Worth(self.label, self.accuracy[some], self.flops[some], self.branches[some], self.n)

    @property
    def mean(self) -> float:
        """Accuracy over all questions."""
        return float(self.accuracy.mean())

    @property
    def gflops(self) -> float:
        """Mean of a question."""
        return float(self.flops.mean()) / 1e9

    @property
    def error(self) -> float:
        """Standard error of the mean over questions."""
        num = len(self.accuracy)
        return float(self.accuracy.std(ddof=1)) / math.sqrt(num) if num > 1 else 0.5 / Z

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over questions, by its standard error."""
        return max(self.mean - Z * self.error, 0.0), min(self.mean + Z * self.error, 1.0)


def difference(one: Worth, other: Worth) -> tuple[float, float, float]:
    """Mean of the paired difference in accuracy, and its 95 % interval."""
    gap = one.accuracy - other.accuracy
    error = Z * float(gap.std(ddof=1)) / math.sqrt(len(gap))
    return float(gap.mean()), float(gap.mean()) - error, float(gap.mean()) + error


def calibration_error(estimates: Numbers, is_true: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error over bins with equally many estimates (Guo et al. 2017, with quantiles)."""
    order = np.argsort(estimates, kind="stable")
    parts = np.array_split(order, bins)
    gaps = [abs(float(estimates[part].mean()) - float(is_true[part].mean())) * len(part) for part in parts if len(part)]
    return sum(gaps) / len(estimates)


def error_by_chance(estimates: Numbers, bins: int = 10) -> float:
    """The mean `calibration_error` of estimates that are true: more than zero, since shares of few questions scatter."""
    outcomes = np.random.default_rng(0).random((RESAMPLED, len(estimates))) < estimates
    return float(np.mean([calibration_error(estimates, outcome, bins) for outcome in outcomes]))


def brier(estimates: Numbers, is_true: NDArray[np.bool_]) -> float:
    """Mean squared difference of the estimate and what was."""
    return float(((estimates - is_true) ** 2).mean())


def oracle(worths: Sequence[Worth]) -> Worth:
    """The plan that is most often right for each question, the cheapest of them: nobody can know it before."""
    accuracy = np.stack([one.accuracy for one in worths])
    flops = np.stack([one.flops for one in worths])
    best = accuracy.max(axis=0)
    cost = np.where(accuracy >= best - 1e-9, flops, np.inf)
    chosen = cost.argmin(axis=0)
    columns = np.arange(accuracy.shape[1])
    branches = np.stack([one.branches for one in worths])
    return Worth("oracle", best, flops[chosen, columns], branches[chosen, columns])


def largest(worths: Sequence[Worth]) -> Worth:
    """The most right of the plans that may draw the most."""
    return max(_largest(worths), key=lambda one: one.mean)


def cheapest(worths: Sequence[Worth]) -> Worth:
    """The cheapest of them that is within a standard error of that one (Breiman et al. 1984): who is ahead there is chance."""
    most = largest(worths)
    return min((one for one in _largest(worths) if one.mean >= most.mean - most.error), key=lambda one: one.gflops)


def _largest(worths: Sequence[Worth]) -> list[Worth]:
    most = max(one.n for one in worths)
    return [one for one in worths if one.n == most]
