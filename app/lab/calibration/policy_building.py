"""Builds a policy from trajectories and fixed plans, and evaluates it on questions that it was not fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.calibration.cross_validation import (
    CrossValidation,
    StoppedTrajectory,
    assemble_policy,
    cross_validate,
    direct_flops,
)
from app.lab.calibration.evaluation import performance_of
from app.lab.calibration.fitting import fit
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.policy_choices import bins_of, choose, with_direct_bins
from app.lab.calibration.risk import risk_of
from app.request import NUM_BINS, Effort
from app.routing.policy_file import Bin, MeasuredPlan, PolicyFile, auto_label

DifficultyEstimates = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""By the time of the estimate: (questions,) estimates of the probability that the first answer is wrong, and 1 or 0 for whether it was.

Where answers are not known, the latter is a probability."""


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """A policy and its evaluation.

    Attributes:
        file: the policy, fitted to all questions.
        fixed: the performance of the fixed plans, `direct` first.
        autos: the performance of the policy by effort, on questions that it was not fitted to.
        bins: (questions,) the bin of each, by a policy that was not fitted to it.
        difficulty: the estimates of policies that were not fitted to the question.

    """

    file: PolicyFile
    fixed: Sequence[PlanPerformance]
    autos: Mapping[Effort, PlanPerformance]
    bins: NDArray[np.int_]
    difficulty: DifficultyEstimates


def build_policy(observed: Sequence[ObservedQuestion], fixed: Sequence[PlanPerformance], **fields: Any) -> CalibrationResult:
    """Fit and evaluate a policy.

    Args:
        observed: questions with their trajectories.
        fixed: the performance of the fixed plans on these questions, `direct` first.
        fields: those of `PolicyFile` that do not follow from the questions.

    """
    validation = cross_validate(observed)
    choice = choose(validation, observed, fixed, np.ones(len(observed), dtype=bool))
    served = _serve_held_out(validation, observed, fixed)
    autos = {effort: performance_of(auto_label(effort), stopped) for effort, stopped in served.items()}
    bins = bins_of(validation.difficulties, choice.edges)
    unit = direct_flops(observed)
    every = [*fixed, *autos.values()]
    file = assemble_policy(
        fit(observed),
        observed,
        edges=choice.edges,
        prices={effort: price / unit for effort, price in choice.prices.items()},
        bins=tuple(
            Bin.model_validate(
                {
                    "plans": {effort: choice.plans[effort][number] for effort in Effort},
                    "measured": [_measured_plan(one.of(bins == number)) for one in every if (bins == number).any()],
                }
            )
            for number in range(NUM_BINS)
        ),
        risk=risk_of(validation, fixed, unit, fields.get("attempts", 1)),
        **fields,
    )
    wrong = np.array([one.wrong for one in observed])
    # The estimate after the first answer is the same at every price, so any price can be read.
    first = np.array([each[0].first_difficulty for each in validation.stopped[choice.prices[Effort.HIGH]]])
    difficulty = {"before the first token": (validation.difficulties, wrong), "after the first answer": (first, wrong)}
    return CalibrationResult(file, fixed, autos, bins, difficulty)


def _serve_held_out(
    validation: CrossValidation, observed: Sequence[ObservedQuestion], fixed: Sequence[PlanPerformance]
) -> dict[Effort, list[list[StoppedTrajectory]]]:
    """Return the outcomes of each question where also prices, bins and plans were chosen by the other folds."""
    served: dict[Effort, list[list[StoppedTrajectory]]] = {effort: [[] for _ in observed] for effort in Effort}
    for fold in np.unique(validation.folds):
        choice = choose(validation, observed, fixed, validation.folds != fold)
        bins = bins_of(validation.difficulties, choice.edges)
        for effort, price in choice.prices.items():
            stopped = with_direct_bins(validation.stopped[price], observed, bins, choice.plans[effort])
            for place in np.flatnonzero(validation.folds == fold):
                served[effort][place] = stopped[place]
    return served


def _measured_plan(one: PlanPerformance) -> MeasuredPlan:
    return MeasuredPlan(
        plan=one.label,
        accuracy=round(one.mean, 4),
        flops=float(one.flops.mean()),
        branches=round(float(one.branches.mean()), 3),
    )
