"""When a refused caller may come back: computed from the queue, and from how long branches hold the engine's slots."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

ASSUMED_HOLD_S = 5.0
"""Seconds for which a branch is assumed to hold its slot before one was observed."""

NEWEST_WEIGHT = 0.05
"""The weight of the newest observation in a moving mean."""

MAX_WAIT_S = 60.0
"""The longest wait that is told, in seconds. OpenAI's SDK ignores a longer one, and tries again within seconds."""


class WaitingTimeEstimator:
    """Estimates when branches that run and wait have ended.

    Each refused caller is told a later time than the one before, so that they do not all come back at once and are refused again.
    So there is no random spread, except at `MAX_WAIT_S`, which many may be told.

    Attributes:
        num_slots: branches that the engine runs at the same time, without the slots that are kept free for some.

    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._hold_s: float | None = None
        self._holds_per_branch = 1.0
        self._serials = itertools.count()
        # when each branch that runs now got its slot, the oldest first
        self._began: dict[int, float] = {}
        self._holds: Counter[int] = Counter()
        # the last time that was told to a caller of each queue; None is the queue of the whole server
        self._told: dict[str | None, float] = {}

    @contextmanager
    def held(self, request: int) -> Iterator[None]:
        """Observe that a branch of the request with this serial number holds a slot for the length of the block."""
        serial, began = next(self._serials), time.monotonic()
        self._began[serial] = began
        self._holds[request] += 1
        try:
            yield
        finally:
            del self._began[serial]
            held = time.monotonic() - began
            self._hold_s = held if self._hold_s is None else self._hold_s + NEWEST_WEIGHT * (held - self._hold_s)

    def end_request(self, request: int, width: int) -> None:
        """Observe that a request has ended that held the place of `width` branches. A search holds slots many times for each."""
        holds = self._holds.pop(request, 0) / max(width, 1)
        self._holds_per_branch += NEWEST_WEIGHT * (holds - self._holds_per_branch)

    def seconds_until_room(self, queue: str | None, excess: int, width: int) -> float:
        """Return the seconds after which a refused caller should come back, 1 to `MAX_WAIT_S`.

        Args:
            queue: the caller's key where its own quota is full, None where the server is.
            excess: branches of that queue that must end before there is room.
            width: branches of the refused request.

        """
        now = time.monotonic()
        # The oldest running branch tells of slowness before it has ended.
        oldest = now - next(iter(self._began.values()), now)
        hold = max(ASSUMED_HOLD_S if self._hold_s is None else self._hold_s, oldest)
        seconds_per_branch = hold * self._holds_per_branch / self.num_slots
        self._told = {key: due for key, due in self._told.items() if due > now}
        first = now + hold + excess * seconds_per_branch
        due = max(first, self._told.get(queue, 0.0) + width * seconds_per_branch)
        self._told[queue] = min(due, now + MAX_WAIT_S)
        if due - now >= MAX_WAIT_S:
            return MAX_WAIT_S * random.uniform(0.9, 1.0)  # noqa: S311 - no secret
        return max(due - now, 1.0)
