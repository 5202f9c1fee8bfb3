"""Fits the estimators of a policy to trajectories. The only home of scikit-learn.

Everything that is told of a policy is measured on questions that nothing was fitted to: the questions are split in folds, each is judged
by what was fitted to the others, and only the policy that is written is fitted to all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from app.lab.calibration.questions import Replayed
from app.lab.calibration.trajectories import Stage
from app.routing.estimators import Estimator
from app.routing.features import evidence_features, prompt_features

Numbers = NDArray[np.float64]

FOLDS = 5
PROMPT_C = 0.01
"""Of the logistic regression on a thousand hashed features: strong, since there are fewer questions than features."""

EVIDENCE_C = 0.3
RIDGE = 30.0
CURVE_POINTS = 16


@dataclass(frozen=True, slots=True)
class Observed:
    """A question with what a vote would have seen, in several orders.

    Attributes:
        direct: what the greedy answer came to, as it was.
        trajectories: by order, the stages in each.

    """

    text: str
    task: str
    bin: int
    direct: Replayed
    trajectories: Sequence[Sequence[Stage]]

    @property
    def is_hard(self) -> bool:
        """Whether the first answer is wrong."""
        return not self.trajectories[0][0].is_right


@dataclass(frozen=True, slots=True)
class Fitted:
    """Estimators: of the prompt, and by stage: right now, and by later stage what is gained, and the growth of tokens."""

    before: Estimator
    right: list[Estimator]
    gains: list[dict[int, tuple[Estimator, Estimator]]]


def fit(observed: Sequence[Observed], seed: int = 0) -> Fitted:
    """Both moments of difficulty, and what more candidates bring."""
    prompts = np.stack([prompt_features(one.text) for one in observed])
    hard = np.array([one.is_hard for one in observed])
    before, guesses = _crossed(prompts, hard, PROMPT_C, np.arange(len(observed)), seed)
    owners = np.repeat(np.arange(len(observed)), [len(one.trajectories) for one in observed])
    rows = [trajectory for one in observed for trajectory in one.trajectories]
    is_right = np.array([[stage.is_right for stage in row] for row in rows])
    tokens = np.log([[stage.evidence.tokens for stage in row] for row in rows])
    right, gains = [], []
    for place in range(len(rows[0])):
        features = np.stack(
            [evidence_features(row[place].evidence, guesses[owner]) for row, owner in zip(rows, owners, strict=True)]
        )
        right.append(_crossed(features, is_right[:, place], EVIDENCE_C, owners, seed)[0])
        gains.append(
            {
                later: (
                    _ridge(features, is_right[:, later].astype(float) - is_right[:, place]),
                    _ridge(features, tokens[:, later] - tokens[:, place]),
                )
                for later in range(place + 1, len(rows[0]))
            }
        )
    return Fitted(before, right, gains)


def _crossed(
    features: Numbers, target: NDArray[np.bool_], strength: float, owners: NDArray[np.int_], seed: int
) -> tuple[Estimator, Numbers]:
    """A logistic model whose curve is fitted to estimates for questions that it was not fitted to; and those, calibrated."""
    guesses = np.empty(len(target))
    everyone = np.unique(owners)
    for learned, asked in KFold(FOLDS, shuffle=True, random_state=seed).split(everyone):
        train, test = np.isin(owners, everyone[learned]), np.isin(owners, everyone[asked])
        model = _logistic(features[train], target[train], strength)
        guesses[test] = [model(row) for row in features[test]]
    curve = _curve(guesses, target)
    whole = _logistic(features, target, strength).model_copy(update={"curve": curve})
    whole = Estimator.model_validate(whole.model_dump())
    calibrated = np.interp(guesses, [x for x, _ in curve], [y for _, y in curve]) if curve else guesses
    return whole, calibrated


def _logistic(features: Numbers, target: NDArray[np.bool_], strength: float) -> Estimator:
    scaler = StandardScaler().fit(features)
    if target.all() or not target.any():
        share = min(max(float(target.mean()), 0.01), 0.99)
        return _estimator("logistic", scaler, np.zeros(features.shape[1]), float(np.log(share / (1 - share))))
    model = LogisticRegression(C=strength, max_iter=2000).fit(scaler.transform(features), target)
    return _estimator("logistic", scaler, model.coef_[0], float(model.intercept_[0]))


def _ridge(features: Numbers, target: Numbers) -> Estimator:
    scaler = StandardScaler().fit(features)
    model = Ridge(alpha=RIDGE).fit(scaler.transform(features), target)
    return _estimator("identity", scaler, model.coef_, float(model.intercept_))


def _estimator(link: Any, scaler: StandardScaler, weights: Numbers, bias: float) -> Estimator:
    mean, scale = scaler.mean_, scaler.scale_
    assert mean is not None
    assert scale is not None
    return Estimator(
        link=link, mean=_rounded(mean), scale=_rounded(scale), weights=_rounded(weights), bias=round(bias, 6)
    )  # fmt: skip


def _rounded(values: Numbers) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def _curve(guesses: Numbers, target: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Isotonic regression through quantiles of the estimates, so that no step rests on a handful of questions."""
    edges = np.unique(np.quantile(guesses, np.linspace(0, 1, CURVE_POINTS + 1)))
    if len(edges) < 3:
        return ()
    places = np.clip(np.searchsorted(edges, guesses, "right") - 1, 0, len(edges) - 2)
    present = np.unique(places)
    middle = np.array([guesses[places == place].mean() for place in present])
    shares = np.array([target[places == place].mean() for place in present])
    weights = np.array([(places == place).sum() for place in present])
    fitted = (
        IsotonicRegression(y_min=0.005, y_max=0.995, out_of_bounds="clip")
        .fit(middle, shares, sample_weight=weights)
        .predict(middle)
    )
    points = {
        round(float(x), 5): round(float(y), 5) for x, y in zip(middle, fitted, strict=True)
    }  # some may be one when rounded
    return tuple(points.items()) if len(points) > 1 else ()
