"""The circuit breaker, with a clock that the tests move."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reward_models.breaker import Breaker, Resting


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Stands still unless it is moved."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """Opens after three failures, for ten seconds; only `OSError`s count."""
    return Breaker(3, 10.0, OSError, clock)


def fail(breaker: Breaker, error: BaseException | None = None) -> None:
    error = error or OSError()
    with pytest.raises(type(error)), breaker.passing():
        raise error


def succeed(breaker: Breaker) -> None:
    with breaker.passing():
        pass


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """A success between them starts the count anew."""
    fail(breaker)
    fail(breaker)
    succeed(breaker)
    fail(breaker)
    fail(breaker)
    assert breaker.is_closed
    fail(breaker)
    assert not breaker.is_closed
    with pytest.raises(Resting), breaker.passing():
        pytest.fail("was let through")


def test_one_at_a_time_tries_it_after_the_rest(breaker: Breaker, clock: Clock) -> None:
    """The others are told off while somebody tries; success lets all through again."""
    for _ in range(3):
        fail(breaker)
    clock.now += 9.9
    with pytest.raises(Resting):
        succeed(breaker)
    clock.now += 0.1
    with breaker.passing(), pytest.raises(Resting):
        succeed(breaker)
    assert breaker.is_closed
    with breaker.passing():
        succeed(breaker)


def test_a_failed_trial_begins_another_rest(breaker: Breaker, clock: Clock) -> None:
    """A whole one."""
    for _ in range(3):
        fail(breaker)
    clock.now += 10
    fail(breaker)
    clock.now += 9.9
    with pytest.raises(Resting):
        succeed(breaker)
    clock.now += 0.1
    succeed(breaker)
    assert breaker.is_closed


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ValueError(), KeyboardInterrupt()])
def test_what_is_not_the_services_fault_does_not_count(breaker: Breaker, clock: Clock, error: BaseException) -> None:
    """Neither as a failure nor as a success, and a trial that ends so makes room for the next."""
    for _ in range(5):
        fail(breaker, error)
    fail(breaker)
    fail(breaker)
    fail(breaker, error)
    assert breaker.is_closed
    fail(breaker)
    clock.now += 10
    fail(breaker, error)
    assert not breaker.is_closed
    succeed(breaker)
    assert breaker.is_closed


def test_who_entered_before_it_opened_does_not_prolong_the_rest(breaker: Breaker, clock: Clock) -> None:
    """Slow failures arrive late."""

    def fail_late() -> None:
        with breaker.passing():
            fail(breaker)
            clock.now += 9
            raise OSError("late")

    fail(breaker)
    fail(breaker)
    with pytest.raises(OSError, match="late"):
        fail_late()
    clock.now += 1
    succeed(breaker)


@given(st.lists(st.sampled_from(["fail", "succeed", "cancel", "wait"]), max_size=60))
def test_it_always_recovers_and_never_lets_a_crowd_through(events: list[str]) -> None:
    """Whatever happened: after a rest one may try, and a success lets all through."""
    clock = Clock()
    breaker = Breaker(2, 10.0, OSError, clock)
    errors = {"fail": OSError(), "cancel": asyncio.CancelledError()}
    for event in events:
        clock.now += 4 if event == "wait" else 0
        try:
            with breaker.passing():
                if not breaker.is_closed:
                    with pytest.raises(Resting):
                        succeed(breaker)
                if event in errors:
                    raise errors[event]
        except (OSError, asyncio.CancelledError, Resting):
            pass
    clock.now += 10
    succeed(breaker)
    assert breaker.is_closed
