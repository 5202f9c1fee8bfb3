"""Fits the general estimator to labelled pools of several models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from app.lab.calibration.fitting import FOLDS, Numbers, fit_gain, fit_logistic
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.trajectories import WaveRecord
from app.request import Effort
from app.routing.estimators import Estimator
from app.routing.features import logit
from app.routing.general_features import (
    NUM_GENERAL_FEATURES,
    NUM_WORK_FEATURES,
    PromptReading,
    answer_features,
    first_token_features,
)
from app.routing.general_file import GeneralFile

MEMBERS = 8
"""The number of estimators before the first token. Each is fitted without one part of the families."""

PROMPT_C = 0.001
"""The inverse regularisation strength for prompts."""

FIRST_TOKENS_C = 0.03
"""The inverse regularisation strength for the first tokens."""

ANSWER_C = 0.03
"""The inverse regularisation strength for what the answers show. It is small, so that it holds for models that were not seen."""

EMPHASIS = np.where(np.arange(NUM_GENERAL_FEATURES) < NUM_WORK_FEATURES, 3.0, 1.0)
"""By how much each standardised feature of a prompt is multiplied. The few of the work would drown in a thousand hashed words."""


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
        return np.stack([PromptReading(one.text, one.kind).general(self.token_flops) for one in self.observed])


def fit_general(
    pools: Sequence[ModelQuestions], prices: Mapping[Effort, float], *, members: int = MEMBERS, **fields: Any
) -> GeneralFile:
    """Fit all estimators.

    Args:
        pools: of all models, each with the same number of orders of its samples.
        prices: the accuracy that a token must gain, by effort.
        members: the number of estimators before the first token; a single one is fitted to all families, and has no interval.
        fields: other fields of `GeneralFile`.

    """
    questions = [one for pool in pools for one in pool.observed]
    prompts = np.concatenate([pool.features() for pool in pools])
    wrong = np.array([one.wrong for one in questions])
    families = np.array([one.task for one in questions])
    estimators = _fit_members(prompts, wrong, families, members)
    firsts = np.stack([first_token_features(one.trajectories[0][0].evidence.first_logprobs) for one in questions])
    first_tokens = fit_logistic(np.hstack([prompts[:, :NUM_WORK_FEATURES], firsts]), wrong, FIRST_TOKENS_C)
    rows = [(place, row) for place, one in enumerate(questions) for row in one.trajectories]
    return GeneralFile.model_validate(
        {
            "version": 1, "provenance": {}, "temperature": 0.7, "attempts": 3, "prompt_difficulty": estimators, "prices": prices,
            "first_tokens": first_tokens, "stages": _fit_stages(rows, families), **fields,
        }
    )  # fmt: skip


def _fit_members(prompts: Numbers, wrong: Numbers, families: NDArray[np.str_], members: int) -> list[Estimator]:
    """Fit as many estimators before the first token as there shall be members.

    Args:
        prompts: (questions, features).
        wrong: (questions,) probabilities that the first answer is wrong.
        families: (questions,) of the questions, which are divided into as many parts.
        members: their number.

    """
    if members == 1:
        return [fit_logistic(prompts, wrong, PROMPT_C, EMPHASIS)]
    names = np.random.default_rng(0).permutation(np.unique(families))
    parts = [np.isin(families, names[number::members]) for number in range(min(members, len(names)))]
    return [fit_logistic(prompts[~is_out], wrong[~is_out], PROMPT_C, EMPHASIS) for is_out in parts]


def _fit_stages(rows: Sequence[tuple[int, Sequence[WaveRecord]]], families: NDArray[np.str_]) -> list[dict[str, Any]]:
    """Fit the estimators of all waves, each to the pools that are large enough for it.

    Args:
        rows: the place of its question, and its waves, of each trajectory.
        families: (questions,) of the questions.

    """
    stages = []
    _, groups = np.unique(families, return_inverse=True)
    for wave in range(max(len(row) for _, row in rows)):
        reached = [(place, row) for place, row in rows if len(row) > wave]
        features = np.stack([answer_features(row[wave].evidence, 0.5) for _, row in reached])
        right = np.array([row[wave].right for _, row in reached])
        owners = groups[[place for place, _ in reached]]
        gains = []
        for later in range(wave + 1, max(len(row) for _, row in rows)):
            has = np.array([len(row) > later for _, row in reached])
            ends = [row for _, row in reached if len(row) > later]
            gain = np.array([row[later].right - row[wave].right for row in ends])
            growth = np.log([row[later].evidence.tokens / row[wave].evidence.tokens for row in ends])
            gains.append({"stage": later, "expected": fit_gain(features[has], gain), "tokens": fit_gain(features[has], growth)})
        estimator = _fit_right(features, right, owners)
        stages.append({"answers": reached[0][1][wave].evidence.answers, "right": estimator, "gains": gains})
    return stages


def _fit_right(features: Numbers, right: Numbers, families: NDArray[np.int_]) -> Estimator:
    """Fit the probability of being right, with the slope and intercept that suit families which it was not fitted to (Platt 1999).

    A calibration curve in steps would make many questions equal, of which this estimator still knows which one is easier.
    """
    odds = np.empty(len(right))
    for fitted_to, held_out in GroupKFold(min(FOLDS, len(np.unique(families)))).split(features, groups=families):
        part = fit_logistic(features[fitted_to], right[fitted_to], ANSWER_C)
        odds[held_out] = [logit(part(row)) for row in features[held_out]]
    scaling = fit_logistic(odds[:, None], right, 1.0)
    slope = scaling.weights[0] / scaling.scale[0]
    one = fit_logistic(features, right, ANSWER_C)
    bias = slope * (one.bias - scaling.mean[0]) + scaling.bias
    return Estimator(link="logistic", mean=one.mean, scale=one.scale, weights=tuple(slope * w for w in one.weights), bias=bias)
