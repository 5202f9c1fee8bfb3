"""The accuracy and cost of plans, and how good probabilities are: intervals, calibration error, Brier score, oracle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

Z = 1.96
"""Standard errors on either side of the mean in a 95 % interval."""

NUM_RESAMPLES = 200
"""How often outcomes are sampled to estimate what chance alone does."""


@dataclass(frozen=True, slots=True)
class PlanPerformance:
    """The accuracy and cost of a plan on each question.

    Attributes:
        label: the name of the plan.
        accuracy: (questions,) the share of orders in which the answer is right.
        flops: (questions,) mean over the orders.
        branches: (questions,) mean number of branches over the orders.
        n: the number of answers of a fixed plan; 0 for other plans.

    """

    label: str
    accuracy: Numbers
    flops: Numbers
    branches: Numbers
    n: int = 0

    def of(self, mask: NDArray[np.bool_]) -> "PlanPerformance":
        """Return the performance on the questions of a (questions,) mask."""
        return PlanPerformance(self.label, self.accuracy[mask], self.flops[mask], self.branches[mask], self.n)

    @property
    def mean(self) -> float:
        """The accuracy over all questions, 0 to 1."""
        return float(self.accuracy.mean())

    @property
    def gflops(self) -> float:
        """The mean GFLOPs per question."""
        return float(self.flops.mean()) / 1e9

    @property
    def error(self) -> float:
        """The standard error of the mean accuracy over questions."""
        num = len(self.accuracy)
        # one question tells nothing of the variance: its interval covers half of the scale on either side
        return float(self.accuracy.std(ddof=1)) / math.sqrt(num) if num > 1 else 0.5 / Z

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean accuracy over questions, by its standard error."""
        return max(self.mean - Z * self.error, 0.0), min(self.mean + Z * self.error, 1.0)


def difference(one: PlanPerformance, other: PlanPerformance) -> tuple[float, float, float]:
    """Return the mean of the paired difference in accuracy, `one` less `other`, and its 95 % interval."""
    return mean_interval(one.accuracy - other.accuracy)


def mean_interval(values: Numbers) -> tuple[float, float, float]:
    """Return the mean of (questions,) values, and its 95 % interval by the standard error."""
    error = Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()), float(values.mean()) - error, float(values.mean()) + error


def calibration_error(estimates: Numbers, outcomes: Numbers, bins: int = 10) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv:1706.04599), with bins of equally many estimates.

    Args:
        estimates: (questions,) probabilities.
        outcomes: (questions,) 1 or 0, or their probability where they are not known.
        bins: the number of bins.

    """
    order = np.argsort(estimates, kind="stable")
    parts = np.array_split(order, bins)
    gaps = [abs(float(estimates[part].mean()) - float(outcomes[part].mean())) * len(part) for part in parts if len(part)]
    return sum(gaps) / len(estimates)


def error_by_chance(estimates: Numbers, bins: int = 10) -> float:
    """Return the mean `calibration_error` of perfectly calibrated estimates.

    It is more than zero, since the shares of few questions vary by chance.
    """
    outcomes = (np.random.default_rng(0).random((NUM_RESAMPLES, len(estimates))) < estimates).astype(float)
    return float(np.mean([calibration_error(estimates, outcome, bins) for outcome in outcomes]))


def brier(estimates: Numbers, outcomes: Numbers) -> float:
    """Return the Brier score: the mean squared difference of probability and outcome (Brier 1950).

    Where the outcome is not known, its probability is given, and the score is the expected one.
    """
    return float((outcomes * (1 - estimates) ** 2 + (1 - outcomes) * estimates**2).mean())


def expected_auroc(estimates: Numbers, outcomes: Numbers) -> float:
    """Return the area under the ROC curve, 0 to 1, where each question is true and false with its probabilities.

    It is that of `adapters.training.scores.auroc` where all outcomes are 0 or 1. NaN where one of the two has no probability at all.
    """
    values, places = np.unique(estimates, return_inverse=True)
    true = np.bincount(places, outcomes, len(values))
    false = np.bincount(places, 1 - outcomes, len(values))
    pairs = float(true.sum() * false.sum())
    lower = np.cumsum(false) - false / 2  # of equal estimates half are lower
    return float(true @ lower) / pairs if pairs > 0 else float("nan")


def oracle(performances: Sequence[PlanPerformance]) -> PlanPerformance:
    """Return the performance of the best plan for each question, the cheapest of equally accurate ones.

    No server can reach it: nobody knows the best plan of a question beforehand.
    """
    accuracy = np.stack([one.accuracy for one in performances])
    flops = np.stack([one.flops for one in performances])
    best = accuracy.max(axis=0)
    cost = np.where(accuracy >= best - 1e-9, flops, np.inf)
    chosen = cost.argmin(axis=0)
    columns = np.arange(accuracy.shape[1])
    branches = np.stack([one.branches for one in performances])
    return PlanPerformance("oracle", best, flops[chosen, columns], branches[chosen, columns])


def most_accurate_of_largest(performances: Sequence[PlanPerformance]) -> PlanPerformance:
    """Return the most accurate of the plans with the highest n."""
    return max(_largest(performances), key=lambda one: one.mean)


def cheapest_of_largest(performances: Sequence[PlanPerformance]) -> PlanPerformance:
    """Return the cheapest of the plans with the highest n that are within one standard error of the most accurate.

    A lead of less than a standard error may be chance (the one-standard-error rule, Breiman et al. 1984).
    """
    best = most_accurate_of_largest(performances)
    return min((one for one in _largest(performances) if one.mean >= best.mean - best.error), key=lambda one: one.gflops)


def _largest(performances: Sequence[PlanPerformance]) -> list[PlanPerformance]:
    highest = max(one.n for one in performances)
    return [one for one in performances if one.n == highest]
