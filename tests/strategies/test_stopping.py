"""When to stop: hand tables, and what must hold in general."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.voting.stopping import is_settled, leader_posterior, wave_sizes

COUNTS = st.integers(min_value=0, max_value=40)


@pytest.mark.parametrize(
    ("leader", "runner_up", "posterior"),
    [(0, 0, 0.5), (1, 0, 0.75), (2, 0, 0.875), (3, 0, 0.9375), (4, 0, 0.96875), (5, 0, 0.984375), (1, 1, 0.5), (4, 1, 57 / 64)],
)
def test_the_posterior_by_hand(leader: int, runner_up: int, posterior: float) -> None:
    """Adaptive-Consistency's own examples, and 4 to 1 worked out as a binomial tail."""
    assert leader_posterior(leader, runner_up) == posterior


@given(COUNTS, COUNTS)
def test_the_posterior_is_the_integral_it_stands_for(leader: int, runner_up: int) -> None:
    """The mass of x^a (1-x)^b above one half, by the midpoint rule."""
    steps = 20_000
    points = [(i + 0.5) / steps for i in range(steps)]
    weights = [x**leader * (1 - x) ** runner_up for x in points]
    assert leader_posterior(leader, runner_up) == pytest.approx(sum(weights[steps // 2 :]) / sum(weights), abs=1e-3)


@given(COUNTS, COUNTS, COUNTS, st.floats(min_value=0.51, max_value=1))
def test_settled_is_monotone(leader: int, runner_up: int, remaining: int, threshold: float) -> None:
    """More votes for the leader or fewer draws left never unsettle it."""
    if is_settled(leader, runner_up, remaining, threshold):
        assert is_settled(leader + 1, runner_up, remaining, threshold)
        assert is_settled(leader, runner_up, max(remaining - 1, 0), threshold)


def test_nothing_is_settled_without_a_vote() -> None:
    """Even when nothing more can come."""
    assert not is_settled(0, 0, 0, 0.6)


def test_a_confidence_of_one_stops_only_what_cannot_change() -> None:
    """The posterior never reaches it; arithmetic may."""
    assert not is_settled(10, 0, 10, 1.0)
    assert is_settled(11, 0, 10, 1.0)


@pytest.mark.parametrize(
    ("total", "sizes"),
    [(1, [1]), (4, [4]), (6, [4, 2]), (8, [4, 4]), (16, [4, 4, 8]), (20, [4, 4, 8, 4]), (40, [4, 4, 8, 16, 8])],
)
def test_waves_by_hand(total: int, sizes: list[int]) -> None:
    """Four, then as many again as there are."""
    assert wave_sizes(total) == sizes


@given(st.integers(min_value=1, max_value=500), st.integers(min_value=1, max_value=20))
def test_waves_add_up(total: int, first: int) -> None:
    """To the total, none empty."""
    sizes = wave_sizes(total, first)
    assert sum(sizes) == total
    assert min(sizes) > 0
