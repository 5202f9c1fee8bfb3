"""Bounds what one API key can teach, so that a flood by one moves nothing beyond its share."""

import math
from collections.abc import Callable

WINDOW_S = 3600.0
"""The seconds after which what a key has taught counts 1/e towards its share."""

MAX_KEYS = 4096
"""The keys that are remembered. Operators give out keys, so that nobody can make more."""


class Shares:
    """What each key may still teach.

    Args:
        most: the largest weight of one key's observations within the window.
        clock: returns seconds.

    """

    def __init__(self, most: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}

    def take(self, key: str, weight: float) -> float:
        """Return how much of a weight the key may still use, and count it."""
        now = self._clock()
        used, since = self._used.pop(key, (0.0, now))
        used *= math.exp(-max(now - since, 0.0) / WINDOW_S)
        granted = max(min(weight, self._most - used), 0.0)
        self._used[key] = used + granted, now  # behind all others
        if len(self._used) > MAX_KEYS:
            del self._used[next(iter(self._used))]
        return granted
