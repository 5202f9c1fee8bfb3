"""The measures of plans and probabilities agree with their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.training.scores import auroc
from app.lab.calibration.performance import (
    PlanPerformance,
    brier,
    calibration_error,
    cheapest_of_largest,
    difference,
    error_by_chance,
    expected_auroc,
    most_accurate_of_largest,
    oracle,
)

ESTIMATES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60)


def performance(label: str, accuracy: list[float], flops: list[float]) -> PlanPerformance:
    return PlanPerformance(label, np.array(accuracy), np.array(flops), np.ones(len(flops)))


@given(pairs=ESTIMATES)
def test_auroc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[float, bool]]) -> None:
    scores, truths = np.array([score for score, _ in pairs]), np.array([truth for _, truth in pairs])
    above = [(high > low) + (high == low) / 2 for high in scores[truths] for low in scores[~truths]]
    found = auroc(scores, truths)
    assert math.isnan(found) if not above else found == pytest.approx(np.mean(above))


@given(pairs=ESTIMATES)
def test_errors_of_calibration_are_shares(pairs: list[tuple[float, bool]]) -> None:
    scores, truths = np.array([score for score, _ in pairs]), np.array([truth for _, truth in pairs])
    assert 0 <= calibration_error(scores, truths) <= 1
    assert 0 <= brier(scores, truths) <= 1


def test_true_probabilities_have_no_calibration_error() -> None:
    truths = np.array([True] * 40 + [False] * 60)
    assert calibration_error(truths.astype(float), truths) == 0
    assert calibration_error(np.full(100, 0.4), truths[np.random.default_rng(0).permutation(100)]) < 0.4


def test_the_oracle_takes_the_cheapest_of_the_most_accurate_plans() -> None:
    direct, vote = (
        performance("direct", [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        performance("vote", [1.0, 0.8, 0.0], [4.0, 4.0, 4.0]),
    )
    best = oracle([direct, vote])
    assert best.accuracy.tolist() == [1.0, 0.8, 0.0]
    assert best.flops.tolist() == [1.0, 4.0, 1.0]
    mean, low, high = difference(best, direct)
    assert mean == pytest.approx(0.8 / 3)
    assert low < mean < high
    assert best.of(np.array([False, True, False])).mean == pytest.approx(0.8)


def test_true_probabilities_have_a_calibration_error_by_chance() -> None:
    """It falls with the number of questions, and is 0 for probabilities of 0 and 1."""
    estimates = np.linspace(0.1, 0.9, 1000)
    assert 0 < error_by_chance(estimates) < error_by_chance(estimates[::10])
    assert error_by_chance(np.array([0.0, 1.0] * 50)) == 0


def test_the_cheapest_of_the_largest_plans_is_within_a_standard_error() -> None:
    """The standard error of a hundred questions, half of them right, is 0.05."""
    num = 100

    def plan(label: str, right: int, flops: float, n: int) -> PlanPerformance:
        accuracy = np.arange(num) < right
        return PlanPerformance(label, accuracy.astype(float), np.full(num, flops), np.full(num, float(n)), n)

    small, dear, cheap, bad = plan("a", 90, 1, 8), plan("b", 50, 9, 16), plan("c", 46, 6, 16), plan("d", 44, 3, 16)
    assert most_accurate_of_largest([small, dear, cheap, bad]) is dear
    assert cheapest_of_largest([small, dear, cheap, bad]) is cheap


def test_a_probability_counts_as_that_many_outcomes() -> None:
    """An outcome of probability 0.25 is worth as much as four of which one is true."""
    estimates, outcomes = np.array([0.2, 0.6, 0.9]), np.array([0.25, 0.5, 1.0])
    repeated = np.repeat(estimates, 4)
    known = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1], dtype=float)
    assert brier(estimates, outcomes) == pytest.approx(brier(repeated, known))
    assert expected_auroc(estimates, outcomes) == pytest.approx(auroc(repeated, known > 0))
    assert calibration_error(estimates, outcomes, bins=3) == pytest.approx(calibration_error(repeated, known, bins=3))


def test_without_two_kinds_of_outcomes_nothing_is_separated() -> None:
    assert math.isnan(expected_auroc(np.array([0.1, 0.2]), np.array([1.0, 1.0])))
