"""Fits the estimators of a policy to trajectories. Together with `cross_validation` the only user of scikit-learn.

The probabilities are calibrated on questions that a model was not fitted to: the questions are split into folds, and each fold is
estimated by a model that was fitted to the others. An isotonic regression of these estimates is the calibration curve (Zadrozny
and Elkan 2002).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from app.lab.calibration.observed_questions import ObservedQuestion
from app.routing.estimators import Estimator
from app.routing.features import evidence_features, prompt_features

Numbers = NDArray[np.float64]

FOLDS = 5

MIN_QUESTIONS = 20
"""The fewest questions that anything can be fitted to."""

PROMPT_C = 0.01
"""The inverse regularisation strength for prompts. It is small, since there are more features than questions."""

EVIDENCE_C = 0.3
"""The inverse regularisation strength for the features of a wave."""

RIDGE = 30.0
"""The regularisation strength of the linear models of gains and of token growth."""

CURVE_POINTS = 16
"""The most points of a calibration curve."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The estimators of a policy.

    Attributes:
        prompt_difficulty: from the features of the prompt.
        right: by wave, the probability that the leader is right.
        gains: by wave and later wave, the gain in accuracy and the log growth of tokens.

    """

    prompt_difficulty: Estimator
    right: list[Estimator]
    gains: list[dict[int, tuple[Estimator, Estimator]]]


def fit(observed: Sequence[ObservedQuestion], seed: int = 0) -> Fitted:
    """Fit the difficulty before the first token and after each wave, and the gains of later waves."""
    prompts = np.stack([prompt_features(one.text) for one in observed])
    wrong = np.array([one.wrong for one in observed])
    # the estimators of waves are fitted with out-of-fold difficulties, since served prompts are new to the model as well
    prompt_difficulty, difficulties = fit_probability(prompts, wrong, PROMPT_C, np.arange(len(observed)), seed)
    owners = np.repeat(np.arange(len(observed)), [len(one.trajectories) for one in observed])
    rows = [trajectory for one in observed for trajectory in one.trajectories]
    chances = np.array([[record.right for record in row] for row in rows])
    log_tokens = np.log([[max(record.evidence.tokens, 1) for record in row] for row in rows])  # an answer may be empty
    right, gains = [], []
    for wave in range(len(rows[0])):
        features = np.stack(
            [evidence_features(row[wave].evidence, difficulties[owner]) for row, owner in zip(rows, owners, strict=True)]
        )
        right.append(fit_probability(features, chances[:, wave], EVIDENCE_C, owners, seed)[0])
        gains.append(
            {
                later: (
                    fit_gain(features, chances[:, later] - chances[:, wave]),
                    fit_gain(features, log_tokens[:, later] - log_tokens[:, wave]),
                )
                for later in range(wave + 1, len(rows[0]))
            }
        )
    return Fitted(prompt_difficulty, right, gains)


def fit_probability(
    features: Numbers, target: Numbers, strength: float, owners: NDArray[np.int_], seed: int
) -> tuple[Estimator, Numbers]:
    """Fit a logistic model with a calibration curve.

    Args:
        features: (rows, features).
        target: (rows,) probabilities, 0 or 1 where the outcome is known.
        strength: the inverse regularisation strength.
        owners: (rows,) the question of each row. All rows of a question are in one fold.
        seed: of the division into folds.

    Returns:
        The estimator, and (rows,) calibrated out-of-fold estimates.

    """
    estimates = np.empty(len(target))
    questions = np.unique(owners)
    for fitted_to, held_out in KFold(FOLDS, shuffle=True, random_state=seed).split(questions):
        train, test = np.isin(owners, questions[fitted_to]), np.isin(owners, questions[held_out])
        model = fit_logistic(features[train], target[train], strength)
        estimates[test] = [model(row) for row in features[test]]
    curve = _calibration_curve(estimates, target)
    model = fit_logistic(features, target, strength).model_copy(update={"curve": curve})
    model = Estimator.model_validate(model.model_dump())
    calibrated = np.interp(estimates, [x for x, _ in curve], [y for _, y in curve]) if curve else estimates
    return model, calibrated


def fit_logistic(features: Numbers, target: Numbers, strength: float, emphasis: Numbers | float = 1.0) -> Estimator:
    """Fit probabilities: each row counts as a true and a false one, weighted with the probabilities of these outcomes.

    Each standardised feature is multiplied with its emphasis: the larger it is, the less is its weight regularised.
    """
    scaler = StandardScaler().fit(features)
    scaler.scale_ = scaler.scale_ / emphasis
    weights = np.concatenate([target, 1 - target])
    counts = weights > 0
    outcomes = np.repeat([True, False], len(target))[counts]
    if outcomes.all() or not outcomes.any():
        # scikit-learn refuses one class: a constant stands for it
        share = min(max(float(target.mean()), 0.01), 0.99)
        return _estimator("logistic", scaler, np.zeros(features.shape[1]), float(np.log(share / (1 - share))))
    model = LogisticRegression(C=strength, max_iter=2000).fit(
        np.tile(scaler.transform(features), (2, 1))[counts], outcomes, weights[counts]
    )
    return _estimator("logistic", scaler, model.coef_[0], float(model.intercept_[0]))


def fit_gain(features: Numbers, target: Numbers) -> Estimator:
    """Fit a ridge regression to (rows,) gains."""
    scaler = StandardScaler().fit(features)
    model = Ridge(alpha=RIDGE).fit(scaler.transform(features), target)
    return _estimator("identity", scaler, model.coef_, float(model.intercept_))


def _estimator(link: Literal["logistic", "identity"], scaler: StandardScaler, weights: Numbers, bias: float) -> Estimator:
    mean, scale = scaler.mean_, scaler.scale_
    if mean is None or scale is None:
        raise ValueError("the scaler was not fitted")
    return Estimator(
        link=link, mean=_rounded(mean), scale=_rounded(scale), weights=_rounded(weights), bias=round(bias, 6)
    )  # fmt: skip


def _rounded(values: Numbers) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def _calibration_curve(estimates: Numbers, target: Numbers) -> tuple[tuple[float, float], ...]:
    """Fit an isotonic regression to quantiles of the estimates, so that no step rests on a handful of questions."""
    edges = np.unique(np.quantile(estimates, np.linspace(0, 1, CURVE_POINTS + 1)))
    if len(edges) < 3:
        return ()
    places = np.clip(np.searchsorted(edges, estimates, "right") - 1, 0, len(edges) - 2)
    present = np.unique(places)
    middle = np.array([estimates[places == place].mean() for place in present])
    shares = np.array([target[places == place].mean() for place in present])
    weights = np.array([(places == place).sum() for place in present])
    fitted = (
        IsotonicRegression(y_min=0.005, y_max=0.995, out_of_bounds="clip")
        .fit(middle, shares, sample_weight=weights)
        .predict(middle)
    )
    # a dictionary, since two points may have the same estimate once they are rounded
    points = {round(float(x), 5): round(float(y), 5) for x, y in zip(middle, fitted, strict=True)}
    return tuple(points.items()) if len(points) > 1 else ()
