"""Chooses the prices of the three efforts, the difficulty bins, and the plan of each bin."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.lab.calibration.cross_validation import CrossValidation, StoppedTrajectory, direct_flops
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.performance import PlanPerformance, cheapest_of_largest, most_accurate_of_largest
from app.request import NUM_BINS, Effort

DIRECT_SHARE = 0.95
"""A bin is answered directly where at least this share of its searches keep the first answer: then it can be streamed."""

LOW_COST = 1.15
"""The most that low effort may cost, as a multiple of a direct answer."""

HIGH_COST_SHARE = 0.25
"""The most that high effort may cost, as a share of the cheapest of the largest fixed plans."""

EASY_DIFFICULTY = 0.2
"""A question is easy where its estimated difficulty is lower."""

EASY_COST = 1.15
"""The most that medium effort, the default, may cost on easy questions, as a multiple of a direct answer.

Six points of it are continuations behind false lines, which some of these questions need."""


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """What is chosen from the outcomes of questions.

    Attributes:
        prices: the price of each effort (see `prices_of_efforts`).
        edges: the difficulties between the bins.
        plans: for each effort, the plan of each bin.

    """

    prices: Mapping[Effort, float]
    edges: tuple[float, ...]
    plans: Mapping[Effort, Sequence[str]]


def choose(
    validation: CrossValidation,
    observed: Sequence[ObservedQuestion],
    fixed: Sequence[PlanPerformance],
    mask: NDArray[np.bool_],
) -> PolicyChoice:
    """Choose prices, edges and plans from the outcomes of those questions alone that a (questions,) mask selects."""
    part, questions = validation.of(mask), [one for one, is_in in zip(observed, mask, strict=True) if is_in]
    plans = [one.of(mask) for one in fixed]
    cheapest_flops = float(cheapest_of_largest(plans).flops.mean())
    prices = prices_of_efforts(part, questions, most_accurate_of_largest(plans).mean, cheapest_flops)
    edges = tuple(float(edge) for edge in np.quantile(part.difficulties, np.arange(1, NUM_BINS) / NUM_BINS))
    bins = bins_of(part.difficulties, edges)
    return PolicyChoice(
        prices, edges, {effort: plans_of(part.stopped[price], questions, bins) for effort, price in prices.items()}
    )


def prices_of_efforts(
    validation: CrossValidation, observed: Sequence[ObservedQuestion], target_accuracy: float, target_flops: float
) -> dict[Effort, float]:
    """Choose the prices of the three efforts among those that were tried.

    High effort: among the prices that reach the target accuracy for at most `HIGH_COST_SHARE` of the target FLOPs, the most
    accurate; if there is none, the highest price that reaches the accuracy; if there is none, the most accurate of all.
    Low effort: the most accurate price that costs at most `LOW_COST` times a direct answer.
    Medium effort: the price nearest to the geometric mean of both, or the next one at which easy questions cost at most `EASY_COST`
    times their direct answers; no higher than that of low effort.

    Args:
        validation: the outcomes at all prices.
        observed: the questions.
        target_accuracy: the accuracy of the most accurate of the largest fixed plans.
        target_flops: the FLOPs per question of the cheapest of the largest fixed plans.

    """
    accuracy = {
        price: _mean([[one.right for one in each] for each in stopped]) for price, stopped in validation.stopped.items()
    }
    flops = {price: _mean([[one.flops for one in each] for each in stopped]) for price, stopped in validation.stopped.items()}

    def most_accurate(prices: Sequence[float]) -> float:
        return max(prices, key=lambda price: (accuracy[price], price))

    accurate = [price for price in accuracy if accuracy[price] >= target_accuracy]
    accurate_and_cheap = [price for price in accurate if flops[price] <= HIGH_COST_SHARE * target_flops]
    fallback = max(accurate, default=most_accurate(list(accuracy)))
    high = most_accurate(accurate_and_cheap) if accurate_and_cheap else fallback
    cheap = [price for price in flops if flops[price] <= LOW_COST * direct_flops(observed) and price >= high]
    low = most_accurate(cheap) if cheap else max(flops)
    middle = math.sqrt(low * high)
    nearest = min(accuracy, key=lambda price: abs(math.log(price / middle)))
    easy_costs = _costs_of_easy(validation, observed)
    medium = min((price for price, cost in easy_costs.items() if nearest <= price <= low and cost <= EASY_COST), default=low)
    return {Effort.LOW: low, Effort.MEDIUM: medium, Effort.HIGH: high}


def _costs_of_easy(validation: CrossValidation, observed: Sequence[ObservedQuestion]) -> dict[float, float]:
    """Return by price what easy questions cost, as a multiple of their direct answers; 1 where no question is easy."""
    places = np.flatnonzero(validation.difficulties < EASY_DIFFICULTY)
    if not len(places):
        return dict.fromkeys(validation.stopped, 1.0)
    direct = direct_flops([observed[place] for place in places])
    return {
        price: _mean([[one.flops for one in stopped[place]] for place in places]) / direct
        for price, stopped in validation.stopped.items()
    }


def bins_of(difficulties: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int_]:
    """Return (questions,) bins, counted from 0, as the server finds them."""
    return np.searchsorted(np.array(edges), difficulties, side="right")


def plans_of(
    stopped: Sequence[Sequence[StoppedTrajectory]], observed: Sequence[ObservedQuestion], bins: NDArray[np.int_]
) -> list[str]:
    """Return the plan of each bin: `direct` where almost all searches keep the first answer anyway."""
    keeps_first = np.array(
        [
            np.mean([one.flops == question.direct.flops for one in each])
            for each, question in zip(stopped, observed, strict=True)
        ]
    )
    shares = [keeps_first[bins == number].mean() if (bins == number).any() else 0.0 for number in range(NUM_BINS)]
    return ["direct" if share >= DIRECT_SHARE else "adaptive" for share in shares]


def with_direct_bins(
    stopped: Sequence[Sequence[StoppedTrajectory]],
    observed: Sequence[ObservedQuestion],
    bins: NDArray[np.int_],
    plans: Sequence[str],
) -> list[list[StoppedTrajectory]]:
    """Return the outcomes as they are served: questions of a bin with the plan `direct` end with the greedy answer."""
    return [
        [
            replace(one, right=question.direct.right, flops=question.direct.flops, num_drawn=1)
            if plans[number] == "direct"
            else one
            for one in each
        ]
        for each, question, number in zip(stopped, observed, bins, strict=True)
    ]


def _mean(values: Sequence[Sequence[float]]) -> float:
    """Return the mean over questions of the mean over orders."""
    return float(np.mean([np.mean(each) for each in values]))
