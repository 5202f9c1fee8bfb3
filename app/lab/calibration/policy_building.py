"""From trajectories and fixed plans to a policy, and to what all of it was worth on questions that it was not fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.calibration.evaluation import worth
from app.lab.calibration.fitting import Observed, fit
from app.lab.calibration.pricing import (
    Crossed,
    Ended,
    as_planned,
    bins_of,
    cross,
    direct_flops,
    plans_of,
    policy_of,
    worth_of_efforts,
)
from app.lab.calibration.summary import Worth, cheapest, largest
from app.request import Effort
from app.routing.policy_file import NUM_BINS, Bin, MeasuredPlan, PolicyFile, auto_label

Moments = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By name: (questions,) estimates of being wrong, and whether it was."""


@dataclass(frozen=True, slots=True)
class Made:
    """What calibration comes to.

    Attributes:
        autos: the policy's worth by effort, on questions that it was not fitted to, as are `bins` (questions,) and the `moments`.

    """

    file: PolicyFile
    fixed: Sequence[Worth]
    autos: Mapping[Effort, Worth]
    bins: np.ndarray
    moments: Moments


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen by how questions ended: a price for each effort (`pricing.worth_of_efforts`), the bins, and their plans."""

    prices: Mapping[Effort, float]
    edges: tuple[float, ...]
    plans: Mapping[Effort, Sequence[str]]


def make(observed: Sequence[Observed], fixed: Sequence[Worth], **fields: Any) -> Made:
    """Fit everything; `fields` are those of `PolicyFile` that only the caller knows."""
    crossed = cross(observed)
    choice = _choose(crossed, observed, fixed, np.ones(len(observed), dtype=bool))
    autos = {effort: worth(auto_label(effort), each) for effort, each in _served(crossed, observed, fixed).items()}
    bins = bins_of(crossed.difficulties, choice.edges)
    unit = direct_flops(observed)
    every = [*fixed, *autos.values()]
    file = policy_of(
        fit(observed),
        observed,
        edges=choice.edges,
        prices={effort: price / unit for effort, price in choice.prices.items()},
        bins=tuple(
            Bin(
                plans={effort: choice.plans[effort][number] for effort in Effort},
                measured=tuple(_measured(one.of(bins == number)) for one in every if (bins == number).any()),
            )
            for number in range(NUM_BINS)
        ),
        **fields,
    )
    hard = np.array([one.is_hard for one in observed])
    first = np.array([each[0].first for each in crossed.ended[choice.prices[Effort.HIGH]]])
    moments = {"before the first token": (crossed.difficulties, hard), "after the first answer": (first, hard)}
    return Made(file, fixed, autos, bins, moments)


def _choose(crossed: Crossed, observed: Sequence[Observed], fixed: Sequence[Worth], some: NDArray[np.bool_]) -> Choice:
    """By these questions alone."""
    part, people = crossed.of(some), [one for one, is_in in zip(observed, some, strict=True) if is_in]
    most = [one.of(some) for one in fixed]
    prices = worth_of_efforts(part, people, largest(most).mean, float(cheapest(most).flops.mean()))
    edges = tuple(float(edge) for edge in np.quantile(part.difficulties, np.arange(1, NUM_BINS) / NUM_BINS))
    bins = bins_of(part.difficulties, edges)
    return Choice(prices, edges, {effort: plans_of(part.ended[price], people, bins) for effort, price in prices.items()})


def _served(crossed: Crossed, observed: Sequence[Observed], fixed: Sequence[Worth]) -> dict[Effort, list[list[Ended]]]:
    """How each question would end if everything had been chosen by those of the other folds."""
    served: dict[Effort, list[list[Ended]]] = {effort: [[] for _ in observed] for effort in Effort}
    for fold in np.unique(crossed.folds):
        choice = _choose(crossed, observed, fixed, crossed.folds != fold)
        bins = bins_of(crossed.difficulties, choice.edges)
        for effort, price in choice.prices.items():
            ended = as_planned(crossed.ended[price], observed, bins, choice.plans[effort])
            for place in np.flatnonzero(crossed.folds == fold):
                served[effort][place] = ended[place]
    return served


def _measured(one: Worth) -> MeasuredPlan:
    return MeasuredPlan(
        plan=one.label,
        accuracy=round(one.mean, 4),
        flops=float(one.flops.mean()),
        branches=round(float(one.branches.mean()), 3),
    )
