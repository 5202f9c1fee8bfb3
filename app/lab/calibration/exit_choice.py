"""Chooses the thresholds of `early_exit` from replays.

A threshold is good enough if its answers are right as often as those of whole thinking, less one point (`MARGIN`). Thresholds are tried
from the strictest one down, and the last one before the first that is not good enough is chosen. So a lax threshold that is good by
chance is not chosen where a stricter one fails. Few questions still make a choice look better than it is. So the same choice is made on
four fifths of the questions, and measured on the other fifth, for each fifth: a threshold gets into the policy only if it is good enough
there too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from app.lab.calibration.exit_replays import ExitPerformance, ExitReplays
from app.lab.calibration.fitting import FOLDS
from app.lab.calibration.tried_thoughts import MEANS, PLACES
from app.routing.policy_file import Exits, MeasuredExit
from strategies.checking.trials import Mean

MARGIN = 0.01
"""The accuracy that an early exit may lose against whole thinking."""

THRESHOLDS = (0.999, 0.995, 0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.3)
"""The thresholds that are tried, strictest first."""


def choose(performances: Sequence[ExitPerformance], whole: ExitPerformance, places: NDArray[np.int_]) -> ExitPerformance | None:
    """Return the laxest performance that is good enough on the questions at these places, with all stricter ones; None without one.

    Args:
        performances: strictest threshold first.
        whole: that of whole thinking.
        places: of questions.

    """
    chosen = None
    for one in performances:
        if float((one.accuracy[places] - whole.accuracy[places]).mean()) < -MARGIN:
            break
        chosen = one
    return chosen


def held_out(performances: Sequence[ExitPerformance], whole: ExitPerformance) -> ExitPerformance:
    """Return the performance of `choose` on questions that the threshold was not chosen on."""
    accuracy, thinking, trials = whole.accuracy.copy(), whole.thinking.copy(), whole.trials.copy()
    for others, fold in KFold(FOLDS, shuffle=True, random_state=1).split(np.arange(len(accuracy))):
        if (chosen := choose(performances, whole, others)) is not None:
            accuracy[fold], thinking[fold], trials[fold] = chosen.accuracy[fold], chosen.thinking[fold], chosen.trials[fold]
    return ExitPerformance(None, accuracy, thinking, trials)


@dataclass(frozen=True, slots=True)
class ChosenExit:
    """The choice for one mean of probabilities and one set of transitions.

    Attributes:
        threshold: None if none is good enough, or none saves tokens.
        held_out: what the choice does on questions that it was not made on.

    """

    places: str
    mean: Mean
    threshold: float | None
    held_out: ExitPerformance


def choose_exits(replays: ExitReplays) -> list[ChosenExit]:
    """Choose a threshold for each mean and each set of transitions."""
    whole, found = replays.whole, []
    for places in PLACES:
        for mean in MEANS:
            performances = [replays.by_score(places, mean, threshold) for threshold in THRESHOLDS]
            chosen = choose(performances, whole, np.arange(len(whole.accuracy)))
            tested = held_out(performances, whole)
            is_good = float((tested.accuracy - whole.accuracy).mean()) >= -MARGIN and sum(tested.share(whole)) < 1
            threshold = chosen.threshold if chosen is not None and is_good else None
            found.append(ChosenExit(places, mean, threshold, tested))
    return found


def policy_part(replays: ExitReplays, chosen: Sequence[ChosenExit]) -> Exits:
    """Return the part of the policy, with the cheapest threshold first."""
    whole, thresholds = replays.whole, []
    for one in chosen:
        if one.threshold is not None:
            thinking, trials = one.held_out.share(whole)
            gain = float((one.held_out.accuracy - whole.accuracy).mean())
            thresholds.append(
                MeasuredExit(
                    confidence=one.mean, transitions=PLACES[one.places], threshold=one.threshold, accuracy=round(gain, 4),
                    thinking=round(thinking, 4), trials=round(trials, 4),
                )
            )  # fmt: skip
    thresholds.sort(key=lambda one: one.thinking + one.trials)
    return Exits(questions=len(replays.thoughts), thresholds=tuple(thresholds))
