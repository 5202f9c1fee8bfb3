"""One replica of a fleet: its state, its branches, and who waits for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from app.engine.replica import Replica, ReplicaCard, ReplicaFailed, ReplicaLoad, ReplicaStatus
from app.reward_models.breaker import Breaker

FAILURES, REST_S = 3, 10.0
"""After so many failed branches in a row, a replica whose probes succeed gets no branches for so many seconds."""


class State(StrEnum):
    """What a replica is doing, from joining to leaving."""

    JOINING = "joining"
    READY = "ready"
    FAILED = "failed"
    UNFIT = "unfit"
    LEAVING = "leaving"


def _breaker() -> Breaker:
    return Breaker(FAILURES, REST_S, ReplicaFailed)


@dataclass(slots=True, eq=False)
class Member:
    """A replica of the fleet.

    Attributes:
        reason: why it is not ready; empty where it is.
        counted: what it counted of itself at the last probe.
        adapters: what it holds, by content.
        num_branches: that this server has it generate.
        num_failures: how often it failed.
        num_arrived: parts that arrived from it.
        is_leaving: whether it shall leave when its branches have ended.
        suspected: set when a branch failed on it.
        told: its last state and reason in the log.

    """

    replica: Replica
    state: State = State.JOINING
    reason: str = ""
    card: ReplicaCard | None = None
    counted: ReplicaLoad = field(default_factory=lambda: ReplicaLoad(0, 0, 0))
    adapters: set[str] = field(default_factory=set)
    num_branches: int = 0
    num_failures: int = 0
    num_arrived: int = 0
    is_leaving: bool = False
    breaker: Breaker = field(default_factory=_breaker)
    _others: int = 0
    suspected: asyncio.Event = field(default_factory=asyncio.Event)
    told: tuple[State, str] | None = None
    _waits: set[asyncio.Timeout] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Its address."""
        return self.replica.name

    @property
    def is_awaited(self) -> bool:
        """Whether something waits for it."""
        return bool(self._waits)

    @property
    def load(self) -> int:
        """The branches that it runs or queues, those of other front ends as it told last."""
        return self.num_branches + self._others

    def status(self) -> ReplicaStatus:
        """Return what operators see of it."""
        return ReplicaStatus(
            self.name, self.state.value, self.reason, self.card, self.counted, self.num_branches, tuple(sorted(self.adapters)),
            self.num_failures,
        )  # fmt: skip

    def count(self, counted: ReplicaLoad) -> None:
        """Note what it counts of itself."""
        self.counted = counted
        self._others = max(counted.running + counted.waiting - self.num_branches, 0)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Count a branch for the block."""
        self.num_branches += 1
        try:
            yield
        finally:
            self.num_branches -= 1

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait for it in this block. Raises `ReplicaFailed` when it is lost meanwhile."""
        try:
            async with asyncio.timeout(None) as scope:
                self._waits.add(scope)
                try:
                    yield
                finally:
                    self._waits.discard(scope)
            self.num_arrived += 1
        except TimeoutError:
            raise ReplicaFailed("it is lost") from None

    def suspect(self, reason: str) -> None:
        """Take it out at once, since a branch failed on it. It may join again after a pause."""
        if self.state is State.READY:
            self.state, self.reason = State.FAILED, reason
            self.suspected.set()

    def lose(self) -> None:
        """End all waits for it, and forget how often its branches failed: it may come back as another process."""
        self.breaker = _breaker()
        now = asyncio.get_running_loop().time()
        waits, self._waits = self._waits, set()  # each only once, also one that takes long to end
        for scope in waits:
            scope.reschedule(now)
