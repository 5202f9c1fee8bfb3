"""A circuit breaker: a service that keeps failing is left alone for a while, and then tried by one caller at a time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Resting(Exception):
    """The service failed too often of late, and is not asked."""


class Breaker:
    """Closed, it lets everybody through; open, nobody; half-open, when the rest is over, one at a time until one succeeds.

    Args:
        failures: how many in a row, without a success between them, open it.
        rest_seconds: how long it stays open.
        counted: exceptions that are failures of the service. Others, a cancellation above all, say nothing about it.
        clock: seconds that only ever grow.

    """

    def __init__(
        self,
        failures: int,
        rest_seconds: float,
        counted: type[Exception],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_failures = failures
        self._rest_seconds = rest_seconds
        self._counted = counted
        self._clock = clock
        self._failures = 0
        self._rests_until: float | None = None  # None: closed
        self._has_trial = False

    @property
    def is_closed(self) -> bool:
        """Whether everybody is let through."""
        return self._rests_until is None

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Ask the service in here; raises `Resting` instead of entering when it is not to be asked."""
        is_trial = self._admit()
        try:
            yield
        except self._counted:
            self._fail(is_trial=is_trial)
            raise
        else:
            self._failures = 0
            self._rests_until = None
        finally:
            if is_trial:
                self._has_trial = False

    def _admit(self) -> bool:
        """Whether who enters is on trial."""
        if self._rests_until is None:
            return False
        if self._has_trial or self._clock() < self._rests_until:
            raise Resting
        self._has_trial = True
        return True

    def _fail(self, *, is_trial: bool) -> None:
        self._failures += 1
        is_due = self._rests_until is None and self._failures >= self._max_failures
        if is_trial or is_due:  # who entered before it opened does not prolong the rest
            self._rests_until = self._clock() + self._rest_seconds
