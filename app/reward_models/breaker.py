"""A circuit breaker: a service that keeps failing is not called for a while, and then tried by one caller at a time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CircuitOpen(Exception):
    """The service failed too often, and is not called at the moment."""


class Breaker:
    """A circuit breaker for one service.

    Closed, it lets every call through. Open, it lets none through. When it has been open for `rest_seconds` it is half-open: it lets
    one call through at a time, and closes when one succeeds.

    Args:
        failures: number of failures in a row, without a success between them, that open it.
        rest_seconds: seconds that it stays open.
        counted: type of the exceptions that are failures of the service. Others, such as a cancellation, say nothing about it.
        clock: returns seconds that never decrease.

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
        """Whether every call is let through."""
        return self._rests_until is None

    @property
    def may_pass(self) -> bool:
        """Whether a call would be let through now."""
        return self._rests_until is None or not (self._has_trial or self._clock() < self._rests_until)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Call the service in this block. Raises `CircuitOpen` before the block when the service is not to be called."""
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

    def note_progress(self) -> None:
        """Let every call through again, since one that is not over goes well. The next failure opens it again."""
        if self._rests_until is not None:
            self._rests_until = None
            self._failures = self._max_failures - 1

    def _admit(self) -> bool:
        """Return whether this call is a trial; raises `CircuitOpen` when it is not let through."""
        if not self.may_pass:
            raise CircuitOpen
        if self._rests_until is None:
            return False
        self._has_trial = True
        return True

    def _fail(self, *, is_trial: bool) -> None:
        self._failures += 1
        is_due = self._rests_until is None and self._failures >= self._max_failures
        if is_trial or is_due:  # calls that began before it opened do not keep it open for longer
            self._rests_until = self._clock() + self._rest_seconds
