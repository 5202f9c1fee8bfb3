"""How much better a policy would be if more questions were measured: policies from growing shares of them, cross-validated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student
from sklearn.model_selection import KFold

from app.lab.calibration.cross_validation import assemble_policy, stop_all
from app.lab.calibration.fitting import FOLDS, fit
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.performance import Numbers

SHARES = (0.25, 0.5, 1.0)
"""The shares of the questions that policies are fitted to."""

LEAST = 10
"""The fewest questions that the smallest of these policies is fitted to."""

LONGER = 4
"""How many times as many questions a longer calibration has."""


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The value of policies by the number of questions that they were fitted to, and a fit of a - b / n to it.

    The value is the accuracy less the price of the FLOPs, on questions that nothing was fitted to.

    Attributes:
        sizes: the numbers of questions, rising.
        values: of the policies, mean over all questions.
        slopes: (folds,) b, in accuracy times questions.

    """

    sizes: tuple[int, ...]
    values: tuple[float, ...]
    slopes: Numbers

    def gain(self, times: float) -> tuple[float, float, float]:
        """Return the gain in value that so many times as many questions would bring, and its 95 % interval over the folds.

        The interval holds both the chance in the questions and that in the choice of those that were fitted to.
        """
        scale = (1 - 1 / times) / self.sizes[-1]
        mean, error = float(self.slopes.mean()), float(self.slopes.std(ddof=1)) / math.sqrt(len(self.slopes))
        half = float(student.ppf(0.975, len(self.slopes) - 1)) * error
        return scale * mean, scale * (mean - half), scale * (mean + half)


def learning_curve(observed: Sequence[ObservedQuestion], price: float) -> LearningCurve | None:
    """Fit policies to growing shares of four fifths of the questions, and measure them on the other fifth, for each fifth.

    Args:
        observed: the questions, in random order.
        price: the accuracy (1 is all questions) that a FLOP must gain.

    Returns:
        The curve, or None where there are too few questions.

    """
    splits = list(KFold(FOLDS, shuffle=True, random_state=2).split(np.arange(len(observed))))
    most = min(len(fitted_to) for fitted_to, _ in splits)
    sizes = tuple(round(share * most) for share in SHARES)
    if sizes[0] < LEAST:
        return None
    generator = np.random.default_rng(0)
    values, weights = [], []
    for fitted_to, held_out in splits:
        shuffled, tests = generator.permutation(fitted_to), [observed[place] for place in held_out]
        values.append([_value([observed[place] for place in shuffled[:size]], tests, price) for size in sizes])
        weights.append(len(held_out))
    means = np.average(np.array(values), axis=0, weights=weights)
    inverse = -1 / np.array(sizes)
    slopes = np.array([np.polyfit(inverse, each, 1)[0] for each in values])
    return LearningCurve(sizes, tuple(float(mean) for mean in means), slopes)


def _value(fitted_to: Sequence[ObservedQuestion], tests: Sequence[ObservedQuestion], price: float) -> float:
    """Return the mean over the test questions of the accuracy less the price of the FLOPs, with a policy fitted to the others."""
    file = assemble_policy(fit(fitted_to), fitted_to, model="share")
    [stopped] = stop_all(file, tests, [price]).values()
    return float(np.mean([np.mean([one.right - price * one.flops for one in each]) for each in stopped]))
