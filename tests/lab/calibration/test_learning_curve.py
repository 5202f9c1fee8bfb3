"""The learning curve tells what more questions would bring, and how uncertain that is."""

import numpy as np
import pytest

from app.lab.calibration.cross_validation import direct_flops
from app.lab.calibration.learning_curve import LearningCurve, learning_curve
from app.lab.calibration.observed_questions import ObservedQuestion
from tests.lab.calibration.test_fitting import observed  # noqa: F401 - a fixture


def test_a_gain_is_what_is_left_of_the_slope() -> None:
    """With value a - b / n, from n = 100 to 400 the gain is b (1/100 - 1/400)."""
    gain, low, high = LearningCurve((25, 50, 100), (0.4, 0.5, 0.6), np.array([2.0, 4.0, 6.0, 4.0, 4.0])).gain(4)
    assert gain == pytest.approx(4 * (1 / 100 - 1 / 400))
    assert low < gain < high


def test_policies_from_more_questions_are_measured(observed: list[ObservedQuestion]) -> None:  # noqa: F811
    curve = learning_curve(observed, 0.05 / direct_flops(observed))
    assert curve is not None
    assert curve.sizes == (48, 96, 192)
    assert all(0 < value < 1 for value in curve.values)
    _, low, high = curve.gain(4)
    assert -0.2 < low < high < 0.2


def test_few_questions_tell_nothing(observed: list[ObservedQuestion]) -> None:  # noqa: F811
    assert learning_curve(observed[:40], 1e-6) is None
