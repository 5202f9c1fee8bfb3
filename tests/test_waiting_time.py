"""When refused callers are told to come back."""

import asyncio
import contextlib
import math
import selectors

import pytest

from app.admission import Admission, AdmittedRequest
from app.errors import Busy
from app.request import Caller
from app.waiting_time import ASSUMED_HOLD_S, MAX_WAIT_S, WaitingTimeEstimator


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def observe(estimator: WaitingTimeEstimator, clock: Clock, seconds: float, *, holds: int = 4, requests: int = 50) -> None:
    """Let requests of four branches end that held a slot `holds` times, each for `seconds`."""
    for request in range(requests):
        for _ in range(holds):
            with estimator.held(request):
                clock.now += seconds
        estimator.end_request(request, 4)


def test_the_wait_is_one_hold_and_the_queue_before_it(clock: Clock) -> None:
    """Sixteen branches on eight slots, two seconds each, take four seconds after those that run now."""
    estimator = WaitingTimeEstimator(8)
    observe(estimator, clock, 2.0)
    assert estimator.seconds_until_room(None, 16, 4) == pytest.approx(2 + 4)


def test_callers_are_told_times_one_after_the_other(clock: Clock) -> None:
    """Each gets the time that the one before it needs. The quota of one key has a queue of its own."""
    estimator = WaitingTimeEstimator(8)
    observe(estimator, clock, 2.0)
    told = [estimator.seconds_until_room(None, 4, 4) for _ in range(5)]
    assert told == pytest.approx([3, 4, 5, 6, 7])
    assert estimator.seconds_until_room("key", 4, 4) == pytest.approx(3)
    clock.now += 60  # all of them have come back
    assert estimator.seconds_until_room(None, 4, 4) == pytest.approx(3)


def test_a_search_holds_slots_many_times_for_each_branch(clock: Clock) -> None:
    estimator = WaitingTimeEstimator(8)
    observe(estimator, clock, 2.0, holds=40, requests=200)
    assert estimator.seconds_until_room(None, 4, 4) == pytest.approx(2 + 10, rel=0.01)


def test_before_an_observation_the_age_of_what_runs_is_the_least_that_is_assumed(clock: Clock) -> None:
    estimator = WaitingTimeEstimator(8)
    assert estimator.seconds_until_room(None, 8, 8) == pytest.approx(2 * ASSUMED_HOLD_S)
    with estimator.held(0):
        clock.now += 20
        assert estimator.seconds_until_room("key", 8, 8) == pytest.approx(2 * 20)


def test_the_wait_has_bounds(clock: Clock) -> None:
    """At least a second; at most a minute, spread out, since many callers may be told it. Who comes back too often gains nothing."""
    estimator = WaitingTimeEstimator(8)
    observe(estimator, clock, 0.001)
    assert estimator.seconds_until_room(None, 1, 1) == 1.0
    told = [estimator.seconds_until_room(None, 10**6, 16) for _ in range(100)]
    assert all(MAX_WAIT_S * 0.9 <= wait <= MAX_WAIT_S for wait in told)
    assert len(set(told)) > 1


class Skipping(selectors.DefaultSelector):
    """Waits for nothing: it moves a clock on instead."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list:
        ready = super().select(0)
        self._clock.now += 0 if ready else timeout or 0
        return ready


@pytest.mark.parametrize("hold", [0.5, 2, 5])
def test_refused_callers_who_wait_as_long_as_they_are_told_are_served(clock: Clock, hold: float) -> None:
    """Sixty requests of sixteen branches, where sixteen have room, from callers who try twice more, as OpenAI's SDK does.

    The first sixty come to a server that has observed nothing yet. Slots are nearly as busy as if nobody had been refused.
    """
    admission = Admission(num_slots=64, max_branches=320, max_branches_per_key=256)

    async def branch(request: AdmittedRequest) -> None:
        async with request.slot():
            await asyncio.sleep(hold)

    async def is_served() -> bool:
        for _ in range(3):
            try:
                with admission.admit(Caller("anonymous"), 16) as request:
                    await asyncio.gather(*(branch(request) for _ in range(16)))
            except Busy as busy:
                wait = busy.retry_after
            else:
                return True
            await asyncio.sleep(math.ceil(wait))
        return False

    async def sixty() -> float:
        began = clock.now
        assert all(await asyncio.gather(*(is_served() for _ in range(60))))
        return clock.now - began

    loop = asyncio.SelectorEventLoop(Skipping(clock))
    loop.time = lambda: clock.now
    with contextlib.closing(loop):
        loop.run_until_complete(sixty())
        assert loop.run_until_complete(sixty()) < 1.5 * 60 * 16 * hold / 56  # eight slots are kept for narrow requests
