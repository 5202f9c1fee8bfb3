"""Fits a cascade to the runs of several models on the same questions."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from app.lab.calibration.cascade_runs import MeasuredMember, Runs
from app.lab.calibration.cross_validation import StoppedTrajectory
from app.lab.calibration.fitting import PROMPT_C, Numbers, fit_gain, fit_probability
from app.request import Effort
from app.routing.cascade_file import CascadeFile, CascadeMember, Escalation, escalation_features
from app.routing.estimators import Estimator
from app.routing.features import logit, prompt_features

ESCALATION_C = 1.0
"""The inverse regularisation strength of the few features of an escalation."""

NUM_CHANGES = 8
"""The number of equally likely changes of the log-odds that stand for what an answer may show."""


def fit_cascade(members: Sequence[MeasuredMember], runs: Sequence[Runs], **fields: Any) -> CascadeFile:
    """Fit a cascade.

    Args:
        members: cheapest first.
        runs: of each member, by policies that were not fitted to the question.
        fields: `provenance` and `prices`. Without prices the file holds placeholders.

    """
    texts = [one.text for one in members[0].observed]
    prompts = np.stack([prompt_features(text) for text in texts])
    owners = np.arange(len(texts))
    fitted, before = [], []
    for member, own in zip(members, runs, strict=True):
        wrong = 1 - np.mean([_right(stopped) for stopped in own.values()], axis=0)
        flops = np.mean([[np.mean([one.flops for one in each]) for each in stopped] for stopped in own.values()], axis=0)
        estimator, estimates = fit_probability(prompts, wrong, PROMPT_C, owners, seed=0)
        if_right, if_wrong = _changes(own, estimates)
        fitted.append(
            CascadeMember(
                wrong=estimator,
                log_flops=fit_gain(prompts, np.log(flops)),
                if_right=if_right,
                if_wrong=if_wrong,
                **member.fields,
            )
        )
        before.append(estimates)
    escalations = [
        Escalation(first=first, other=other, wrong=_fit_escalation(runs[first], runs[other], before[first], before[other]))
        for first, other in combinations(range(len(members)), 2)
    ]
    return CascadeFile.model_validate(
        {"provenance": {}, "prices": dict.fromkeys(Effort, 1e-12), "members": fitted, "escalations": escalations, **fields}
    )


def _right(stopped: Sequence[Sequence[StoppedTrajectory]]) -> Numbers:
    """Return the (questions,) share of orders in which the answer is right."""
    return np.array([np.mean([one.right for one in each]) for each in stopped])


def _changes(runs: Runs, before: Numbers) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return equally likely changes of the log-odds of being wrong by looking at the answers: where it is right, where it is wrong."""
    changes, right = [], []
    for stopped in runs.values():
        for each, estimate in zip(stopped, before, strict=True):
            changes += [logit(one.last_difficulty) - logit(estimate) for one in each]
            right += [one.right for one in each]
    return _quantiles(np.array(changes), np.array(right)), _quantiles(np.array(changes), 1 - np.array(right))


def _quantiles(values: Numbers, weights: Numbers) -> tuple[float, ...]:
    """Return weighted quantiles in the middle of equally likely parts; no change where nothing has weight."""
    if weights.sum() <= 0:
        return (0.0,)
    order = np.argsort(values)
    shares = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(shares, (np.arange(NUM_CHANGES) + 0.5) / NUM_CHANGES)
    return tuple(round(float(value), 4) for value in values[order][np.minimum(places, len(values) - 1)])


def _fit_escalation(first: Runs, other: Runs, before: Numbers, other_before: Numbers) -> Estimator:
    rows, wrong, owners = [], [], []
    for price, stopped in first.items():
        target = 1 - _right(other[price])
        for question, each in enumerate(stopped):
            after = np.array([one.last_difficulty for one in each])
            rows.append(escalation_features(before[question], after, other_before[question]))
            wrong += [target[question]] * len(each)
            owners += [question] * len(each)
    return fit_probability(np.concatenate(rows), np.array(wrong), ESCALATION_C, np.array(owners), seed=0)[0]
