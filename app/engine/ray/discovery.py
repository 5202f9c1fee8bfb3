"""Finds the replicas that Ray Serve runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from app.engine.ray.replica import Call, RayReplica
from app.engine.replica import ReplicaFailed

logger = logging.getLogger("ponder.replicas")

ATTEMPTS, PAUSE_S = 50, 0.1
"""How often the first replica is looked for in one look-up, and the seconds in between: Ray Serve tells of it a moment after its start."""


class RayDiscovery:
    """Finds replicas, and connects to them.

    A replica that Ray Serve is about to stop is no longer found. It goes on until its branches have ended.

    Args:
        ask: returns the replicas that take branches, each by its name. Raises `ReplicaFailed` where nobody can tell.

    """

    may_change = True

    def __init__(self, ask: Callable[[], Awaitable[Mapping[str, Call]]]) -> None:
        self._ask = ask
        self._known: dict[str, Call] = {}

    async def find(self) -> tuple[str, ...]:
        """Return the names of all replicas. Where nobody can tell, there are those that there were."""
        for _ in range(1 if self._known else ATTEMPTS):
            try:
                self._known = dict(await self._ask())
            except ReplicaFailed as failure:
                logger.warning("replicas on Ray: %s", failure)
            if self._known:
                break
            await asyncio.sleep(PAUSE_S)
        return tuple(sorted(self._known))

    def connect(self, name: str) -> RayReplica:
        """Return the replica of a name that was found."""
        return RayReplica(name, self._known[name])
