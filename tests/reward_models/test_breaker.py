"""The circuit breaker of a reward model, with a clock that the tests move."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reward_models.breaker import Breaker, CircuitOpen


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still until the test moves it."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """Return a breaker that opens after three failures, for ten seconds; only `OSError` counts as a failure."""
    return Breaker(3, 10.0, OSError, clock)


def fail(breaker: Breaker, error: BaseException | None = None) -> None:
    """Make one call that raises."""
    error = error or OSError()
    with pytest.raises(type(error)), breaker.passing():
        raise error


def succeed(breaker: Breaker) -> None:
    """Make one call that succeeds."""
    with breaker.passing():
        pass


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """A success between them starts the count again at zero."""
    fail(breaker)
    fail(breaker)
    succeed(breaker)
    fail(breaker)
    fail(breaker)
    assert breaker.is_closed
    fail(breaker)
    assert not breaker.is_closed
    with pytest.raises(CircuitOpen), breaker.passing():
        pytest.fail("was let through")


def test_half_open_it_lets_one_call_through_at_a_time(breaker: Breaker, clock: Clock) -> None:
    """Other calls are refused during the trial; its success closes the breaker."""
    for _ in range(3):
        fail(breaker)
    clock.now += 9.9
    with pytest.raises(CircuitOpen):
        succeed(breaker)
    clock.now += 0.1
    with breaker.passing(), pytest.raises(CircuitOpen):
        succeed(breaker)
    assert breaker.is_closed
    with breaker.passing():
        succeed(breaker)


def test_a_failed_trial_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    """It is open for the whole time once more."""
    for _ in range(3):
        fail(breaker)
    clock.now += 10
    fail(breaker)
    clock.now += 9.9
    with pytest.raises(CircuitOpen):
        succeed(breaker)
    clock.now += 0.1
    succeed(breaker)
    assert breaker.is_closed


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ValueError(), KeyboardInterrupt()])
def test_errors_that_are_not_the_services_fault_do_not_count(breaker: Breaker, clock: Clock, error: BaseException) -> None:
    """They count neither as failures nor as successes, and a trial that ends with one makes room for the next."""
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


def test_calls_that_began_before_it_opened_do_not_keep_it_open(breaker: Breaker, clock: Clock) -> None:
    """Their failures may arrive long after it opened."""

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
def test_it_always_recovers_and_never_lets_two_trials_through(events: list[str]) -> None:
    """After any sequence of events, one call is let through once the time is over, and its success closes the breaker."""
    clock = Clock()
    breaker = Breaker(2, 10.0, OSError, clock)
    errors = {"fail": OSError(), "cancel": asyncio.CancelledError()}
    for event in events:
        clock.now += 4 if event == "wait" else 0
        try:
            with breaker.passing():
                if not breaker.is_closed:
                    with pytest.raises(CircuitOpen):
                        succeed(breaker)
                if event in errors:
                    raise errors[event]
        except (OSError, asyncio.CancelledError, CircuitOpen):
            pass
    clock.now += 10
    succeed(breaker)
    assert breaker.is_closed
