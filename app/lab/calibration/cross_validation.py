"""Cross-validates a policy: each question is searched with a policy that was fitted to the other folds.

So all accuracies and costs in the report are of questions that nothing was fitted to. Only the policy that is written is fitted to
all questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from app.lab.calibration.fitting import FOLDS, Fitted, fit
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.trajectories import WaveRecord
from app.request import NUM_BINS, Effort
from app.routing.features import evidence_features, prompt_features
from app.routing.policy_file import Bin, PolicyFile
from app.routing.value_of_computation import ValueOfComputationRule, WaveEstimators
from strategies.core.values import AnswerKind

PRICES = (0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.015, 0.01, 0.007, 0.005, 0.003, 0.002, 0.001, 0.0005)
"""The prices that are tried, as the accuracy that the FLOPs of one direct answer must gain."""


@dataclass(frozen=True, slots=True)
class StoppedTrajectory:
    """Where a stopping rule ended one trajectory.

    Attributes:
        right: the probability that the leading answer was right then, 0 or 1 where that is known.
        flops: the FLOPs until then.
        num_drawn: the number of branches, continuations included.
        first_difficulty: the estimated difficulty after the first answer.
        last_difficulty: the same after the last wave.

    """

    right: float
    flops: int
    num_drawn: int
    first_difficulty: float
    last_difficulty: float


def stop(file: PolicyFile, difficulty: float, price: float, trajectory: Sequence[WaveRecord]) -> StoppedTrajectory:
    """Run the policy's stopping rule on a trajectory.

    Args:
        file: the policy.
        difficulty: the estimated difficulty of the prompt.
        price: the accuracy that a FLOP must gain.
        trajectory: at least one wave.

    """
    rule = ValueOfComputationRule(WaveEstimators(file.stages, evidence_features), difficulty, price * file.flops_per_token)
    first_difficulty = None
    for record in trajectory:
        decision = rule.decide(record.evidence)
        last_difficulty = rule.difficulty_after_wave or 0.0
        first_difficulty = last_difficulty if first_difficulty is None else first_difficulty
        if decision.answers is None or record is trajectory[-1]:
            return StoppedTrajectory(record.right, record.flops, record.evidence.attempts, first_difficulty, last_difficulty)
    raise ValueError("the trajectory is empty")


def stop_all(
    file: PolicyFile, observed: Sequence[ObservedQuestion], prices: Sequence[float]
) -> dict[float, list[list[StoppedTrajectory]]]:
    """Run the policy's stopping rule on all trajectories, and return the (questions, orders) ends by the price of a FLOP."""
    difficulties = [file.prompt_difficulty(prompt_features(one.text)) for one in observed]
    return {
        price: [
            [stop(file, difficulty, price, trajectory) for trajectory in one.trajectories]
            for one, difficulty in zip(observed, difficulties, strict=True)
        ]
        for price in prices
    }


def assemble_policy(fitted: Fitted, observed: Sequence[ObservedQuestion], **fields: Any) -> PolicyFile:
    """Return a policy with these estimators.

    Args:
        fitted: the estimators.
        observed: the questions, for the costs.
        fields: fields of `PolicyFile`. Missing fields get placeholders; then only the estimators of the policy can be used.

    """
    sizes = [record.evidence.answers for record in observed[0].trajectories[0]]
    stages = [
        {
            "answers": answers,
            "right": right,
            "gains": [{"stage": later, "expected": gain, "tokens": growth} for later, (gain, growth) in gains.items()],
        }
        for answers, right, gains in zip(sizes, fitted.right, fitted.gains, strict=True)
    ]
    adaptive = Bin(plans=dict.fromkeys(Effort, "adaptive"))
    return PolicyFile.model_validate(
        {
            "version": 1, "adapter": None, "provenance": {}, "kinds": frozenset({AnswerKind.MATH}),
            "before": fitted.prompt_difficulty, "architecture": {}, "temperature": 0.7, "attempts": 1,
            "edges": (0.2, 0.4, 0.6, 0.8), "flops_per_token": flops_per_token(observed),
            "prices": dict.fromkeys(Effort, 1e-12), "stages": stages, "bins": (adaptive,) * NUM_BINS, **fields,
        }
    )  # fmt: skip


def flops_per_token(observed: Sequence[ObservedQuestion]) -> float:
    """Return the mean FLOPs of a token that is generated after the first answer."""
    flops, tokens = 0.0, 0.0
    for one in observed:
        for trajectory in one.trajectories:
            first, last = trajectory[0], trajectory[-1]
            flops += last.flops - first.flops
            tokens += last.evidence.tokens - first.evidence.tokens
    return flops / tokens if tokens else direct_flops(observed)


def direct_flops(observed: Sequence[ObservedQuestion]) -> float:
    """Return the mean FLOPs of a greedy answer."""
    return float(np.mean([one.direct.flops for one in observed]))


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """The estimates and the outcomes on questions of held-out folds.

    Attributes:
        folds: (questions,) the number of the fold of each question.
        difficulties: (questions,) estimated from the prompts.
        stopped: for each price, the (questions, orders) outcomes.

    """

    folds: NDArray[np.int_]
    difficulties: NDArray[np.float64]
    stopped: Mapping[float, Sequence[list[StoppedTrajectory]]]

    def of(self, mask: NDArray[np.bool_]) -> "CrossValidation":
        """Return the part with the questions of a (questions,) mask."""
        stopped = {price: [one for one, is_in in zip(each, mask, strict=True) if is_in] for price, each in self.stopped.items()}
        return CrossValidation(self.folds[mask], self.difficulties[mask], stopped)


def cross_validate(observed: Sequence[ObservedQuestion], prices: Sequence[float] = PRICES) -> CrossValidation:
    """Fit a policy for each fold to the others, and run its stopping rule on the fold at all prices."""
    difficulties, folds = np.empty(len(observed)), np.empty(len(observed), dtype=int)
    stopped: dict[float, list[list[StoppedTrajectory]]] = {price: [[] for _ in observed] for price in prices}
    unit = direct_flops(observed)
    splits = KFold(FOLDS, shuffle=True, random_state=1).split(np.arange(len(observed)))
    for fold, (fitted_to, held_out) in enumerate(splits):
        folds[held_out] = fold
        others = [observed[place] for place in fitted_to]
        file = assemble_policy(fit(others), others, model="fold")
        for place in held_out:
            one = observed[place]
            difficulties[place] = difficulty = file.prompt_difficulty(prompt_features(one.text))
            for price in prices:
                stopped[price][place] = [stop(file, difficulty, price / unit, trajectory) for trajectory in one.trajectories]
    return CrossValidation(folds, difficulties, stopped)
