"""Fits the general estimator to labelled pools of several models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.calibration.fitting import EVIDENCE_C, Numbers, fit_gain, fit_logistic, fit_probability
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.trajectories import WaveRecord
from app.request import Effort
from app.routing.estimators import Estimator
from app.routing.features import evidence_features
from app.routing.general_features import general_features
from app.routing.general_file import GeneralFile

MEMBERS = 8
"""The number of estimators before the first token. Each is fitted without one part of the families."""

PROMPT_C = 0.03
"""The inverse regularisation strength for prompts."""


@dataclass(frozen=True, slots=True)
class ModelQuestions:
    """The questions of one model's pool.

    Attributes:
        model: tells models apart; no estimator reads it.
        token_flops: of the model.
        observed: its questions.

    """

    model: str
    token_flops: float
    observed: Sequence[ObservedQuestion]

    def features(self) -> Numbers:
        """Return the (questions, features) features of the prompts."""
        return np.stack([general_features(one.text, one.kind, self.token_flops) for one in self.observed])


def fit_general(pools: Sequence[ModelQuestions], prices: Mapping[Effort, float], **fields: Any) -> GeneralFile:
    """Fit all estimators.

    Args:
        pools: of all models, each with the same number of orders of its samples.
        prices: the accuracy that a token must gain, by effort.
        fields: other fields of `GeneralFile`.

    """
    questions = [one for pool in pools for one in pool.observed]
    prompts = np.concatenate([pool.features() for pool in pools])
    wrong = np.array([one.wrong for one in questions])
    families = np.array([one.task for one in questions])
    members, difficulties = fit_members(prompts, wrong, families)
    rows = [(place, row) for place, one in enumerate(questions) for row in one.trajectories]
    return GeneralFile.model_validate(
        {
            "version": 1, "provenance": {}, "temperature": 0.7, "attempts": 3, "prompt_difficulty": members, "prices": prices,
            "stages": _fit_stages(rows, difficulties, families), **fields,
        }
    )  # fmt: skip


def fit_members(prompts: Numbers, wrong: Numbers, families: NDArray[np.str_]) -> tuple[list[Estimator], Numbers]:
    """Fit the estimators before the first token.

    Args:
        prompts: (questions, features).
        wrong: (questions,) probabilities that the first answer is wrong.
        families: (questions,) of the questions, which are divided into `MEMBERS` parts.

    Returns:
        The estimators, and for each question the estimate of the one that was fitted without its family.

    """
    names = np.random.default_rng(0).permutation(np.unique(families))
    members, difficulties = [], np.empty(len(wrong))
    for number in range(min(MEMBERS, len(names))):
        is_out = np.isin(families, names[number::MEMBERS])
        members.append(fit_logistic(prompts[~is_out], wrong[~is_out], PROMPT_C))
        difficulties[is_out] = [members[-1](row) for row in prompts[is_out]]
    return members, difficulties


def _fit_stages(
    rows: Sequence[tuple[int, Sequence[WaveRecord]]], difficulties: Numbers, families: NDArray[np.str_]
) -> list[dict[str, Any]]:
    """Fit the estimators of all waves, each to the pools that are large enough for it.

    Args:
        rows: the place of its question, and its waves, of each trajectory.
        difficulties: (questions,) before the first token.
        families: (questions,) of the questions; the calibration curve is of families that were left out.

    """
    stages = []
    _, groups = np.unique(families, return_inverse=True)
    for wave in range(max(len(row) for _, row in rows)):
        reached = [(place, row) for place, row in rows if len(row) > wave]
        features = np.stack([evidence_features(row[wave].evidence, difficulties[place]) for place, row in reached])
        right = np.array([row[wave].right for _, row in reached])
        owners = groups[[place for place, _ in reached]]
        gains = []
        for later in range(wave + 1, max(len(row) for _, row in rows)):
            has = np.array([len(row) > later for _, row in reached])
            ends = [row for _, row in reached if len(row) > later]
            gain = np.array([row[later].right - row[wave].right for row in ends])
            growth = np.log([row[later].evidence.tokens / row[wave].evidence.tokens for row in ends])
            gains.append({"stage": later, "expected": fit_gain(features[has], gain), "tokens": fit_gain(features[has], growth)})
        estimator, _ = fit_probability(features, right, EVIDENCE_C, owners, 0)
        stages.append({"answers": reached[0][1][wave].evidence.answers, "right": estimator, "gains": gains})
    return stages
