"""The replicas of one model: each joins, is watched, fails, and joins again, while others serve."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from app.engine.remote.discovery import LOOK_UP_S, Finder
from app.engine.replica import Replica, ReplicaCard, ReplicaFailed, ReplicaLoad, ReplicaStatus, ReplicaUnfit
from app.reward_models.breaker import Breaker

logger = logging.getLogger("ponder.replicas")

PROBE_S = 1.0
"""Seconds between two probes of a replica that serves."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
"""Seconds before a replica that failed is tried again. They double with each failure, and start again once it serves."""

STALL_S = 60.0
"""Seconds without a token while it has branches, after which a replica counts as failed."""

FAILURES, REST_S = 3, 10.0
"""After so many failed branches in a row, a replica whose probes succeed gets no branches for so many seconds."""


class State(StrEnum):
    """What a replica is doing, from joining to leaving."""

    JOINING = "joining"
    READY = "ready"
    FAILED = "failed"
    UNFIT = "unfit"
    LEAVING = "leaving"


class _Suspected(ReplicaFailed):
    """A branch failed on it; others may still be served."""


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


class Fleet:
    """All replicas of one model.

    Args:
        discovery: finds their addresses.
        connect: returns the replica at an address.
        join: prepares a member for branches, and returns its card. It raises `ReplicaUnfit` for one that does not belong here.
        on_change: is called when a replica has become ready, or is no longer.

    """

    def __init__(
        self,
        discovery: Finder,
        connect: Callable[[str], Replica],
        join: Callable[[Member], Awaitable[ReplicaCard]],
        on_change: Callable[[], None],
    ) -> None:
        self._discovery = discovery
        self._connect = connect
        self._join = join
        self._on_change = on_change
        self._members: dict[str, Member] = {}
        self._changed = asyncio.Condition()

    @property
    def members(self) -> list[Member]:
        """All replicas, by address."""
        return [self._members[name] for name in sorted(self._members)]

    @property
    def ready(self) -> list[Member]:
        """Those that take branches."""
        return [one for one in self._members.values() if one.state is State.READY]

    async def run(self) -> None:
        """Look for replicas, and keep each of them, until this is cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                urls = await self._discovery.find()
                for url in urls:
                    if url not in self._members:
                        member = self._members[url] = Member(self._connect(url))
                        group.create_task(self._keep(member))
                for url, member in self._members.items():
                    member.is_leaving = url not in urls
                if not self._discovery.may_change:
                    return  # the group goes on
                await asyncio.sleep(LOOK_UP_S)

    async def wait_until(self, is_true: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until `is_true` holds after a change of the fleet, at most `seconds`. Return whether it does."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(is_true)
        except TimeoutError:
            return is_true()
        return True

    async def _keep(self, member: Member) -> None:
        """Let a replica join, watch it, and try again when it fails, until it has left."""
        pause = FIRST_PAUSE_S
        try:
            while not member.is_leaving or member.num_branches:
                try:
                    member.card = await self._join(member)
                    await self._serve(member)
                    pause = FIRST_PAUSE_S
                    await self._watch(member)
                except ReplicaUnfit as error:
                    await self._fail(member, State.UNFIT, str(error))
                except ReplicaFailed as error:
                    await self._fail(member, State.FAILED, str(error))
                    if not isinstance(error, _Suspected):
                        member.lose()
                except Exception as error:  # whatever it answered: one replica never ends the others
                    logger.exception("replica %s", member.name)
                    await self._fail(member, State.FAILED, f"{type(error).__name__} at what it answers")
                    member.lose()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        finally:
            self._members.pop(member.name)
            self._on_change()
            await member.replica.close()

    async def _watch(self, member: Member) -> None:
        """Probe a replica until it fails, or has left. Raises `ReplicaFailed`."""
        last, since = (-1, -1), time.monotonic()
        while not member.is_leaving or member.num_branches:
            if member.is_leaving is not (member.state is State.LEAVING) and not member.suspected.is_set():
                await self._serve(member)
            counted = await member.replica.load()
            member.count(counted)
            now = time.monotonic()
            progress = counted.generated, member.num_arrived
            if progress != last or not (counted.running or member.is_awaited):
                last, since = progress, now
            elif now - since > STALL_S:
                raise ReplicaFailed(f"no token within {STALL_S:g} s, with {counted.running or member.num_branches} branches")
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await member.suspected.wait()
                raise _Suspected(member.reason)

    async def _serve(self, member: Member) -> None:
        if member.is_leaving:
            await self._set(member, State.LEAVING, "it is no longer among the addresses")
        else:
            await self._set(member, State.READY)

    async def _fail(self, member: Member, state: State, reason: str) -> None:
        member.num_failures += 1
        member.adapters.clear()
        await self._set(member, state, reason)

    async def _set(self, member: Member, state: State, reason: str = "") -> None:
        if (state, reason) != member.told:
            level = logging.INFO if state is State.READY else logging.WARNING
            logger.log(level, "replica %s: %s%s", member.name, state, reason and f": {reason}")
        member.state, member.reason, member.told = state, reason, (state, reason)
        member.suspected.clear()
        self._on_change()
        await self.wake()

    async def wake(self) -> None:
        """Let everyone who waits look again."""
        async with self._changed:
            self._changed.notify_all()
