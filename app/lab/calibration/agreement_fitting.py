"""Fits the agreement model (`app.routing.agreement`) to questions with known answers, best of several models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from app.lab.calibration.performance import Numbers
from app.routing.agreement import AGREEMENT_FEATURES, FALLING, RISING, AgreementModel, Ballot, agreement_features
from app.routing.ballots import GenerationBallot

STRENGTH = 10.0
"""The regularisation strength: the penalty is half of it times the sum of the squared weights of standardised features."""


@dataclass(frozen=True, slots=True)
class GradedBallots:
    """The ballots of one question, and which answers are right."""

    ballots: Sequence[Ballot]
    right: frozenset[str]

    def half(self) -> "GradedBallots":
        """Return the first half of the ballots: a question that was asked less often."""
        return GradedBallots(self.ballots[: (len(self.ballots) + 1) // 2], self.right)


def graded(ballots: Sequence[GenerationBallot]) -> GradedBallots:
    """Return the ballots of a question whose answers were graded."""
    right = frozenset(one.ballot.answer for one in ballots if one.generation.is_right and one.ballot.answer is not None)
    return GradedBallots([one.ballot for one in ballots], right)


def fit_agreement(questions: Sequence[GradedBallots], provenance: dict[str, Any] | None = None) -> AgreementModel:
    """Fit the conditional logit by maximum likelihood with a quadratic penalty, and bounds where more votes must not lower it.

    Each question counts twice, with all of its answers and with half of them, so that no number of answers stands for a model.

    Args:
        questions: of one or several models.
        provenance: goes into the file.

    Raises:
        ValueError: no question has an answer that can be read.

    """
    rows, owners, right = _design([*questions, *(one.half() for one in questions)])
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale[scale < 1e-9] = 1.0
    standardised = (rows - mean) / scale
    num = int(owners.max()) + 1

    def loss(parameters: Numbers) -> tuple[float, Numbers]:
        sums = standardised @ parameters[1:] + parameters[0]
        exponentials = np.exp(np.clip(sums, -50, 50))
        total = 1 + np.bincount(owners, exponentials, num)
        has_right = np.bincount(owners, right, num) > 0
        of_right = np.where(has_right, np.bincount(owners, exponentials * right, num), 1.0)
        # of log(total) - log(of_right), by the sums
        slopes = exponentials / total[owners] - np.where(right > 0, exponentials / of_right[owners], 0.0)
        penalty = 0.5 * STRENGTH * float(parameters[1:] @ parameters[1:])
        gradient = np.concatenate([[slopes.sum()], standardised.T @ slopes + STRENGTH * parameters[1:]])
        return float(np.log(total).sum() - np.log(of_right).sum()) + penalty, gradient

    bounds = [(None, None), *(_bounds(name) for name in AGREEMENT_FEATURES)]
    found = minimize(loss, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000})
    weights = found.x[1:] / scale
    named = {name: float(f"{weight:.6g}") for name, weight in zip(AGREEMENT_FEATURES, weights, strict=True) if weight}
    return AgreementModel(bias=round(float(found.x[0] - weights @ mean), 6), weights=named, provenance=provenance or {})


def _bounds(name: str) -> tuple[float | None, float | None]:
    return (0.0 if name in RISING else None, 0.0 if name in FALLING else None)


def _design(questions: Sequence[GradedBallots]) -> tuple[Numbers, NDArray[np.int_], Numbers]:
    """Return the features of all answers, the number of the question of each, and 1 for those that are right."""
    rows: list[Numbers] = []
    owners: list[int] = []
    right: list[float] = []
    for one in questions:
        if features := agreement_features(one.ballots):
            number = owners[-1] + 1 if owners else 0
            rows += list(features.values())
            owners += [number] * len(features)
            right += [float(answer in one.right) for answer in features]
    if not rows:
        raise ValueError("no answer of these questions can be read")
    return np.stack(rows), np.array(owners), np.array(right)
