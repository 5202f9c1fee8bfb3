"""The replicas of one model: each joins, is watched, fails, and joins again, while others serve."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from app.engine.remote.discovery import LOOK_UP_S, Finder
from app.engine.remote.member import Member, State
from app.engine.replica import Replica, ReplicaCard, ReplicaFailed, ReplicaUnfit

logger = logging.getLogger("ponder.replicas")

PROBE_S = 1.0
"""Seconds between two probes of a replica that serves."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
"""Seconds before a replica that failed is tried again. They double with each failure, and start again once it serves."""

STALL_S = 60.0
"""Seconds without a token while it has branches, after which a replica counts as failed."""


class _Suspected(ReplicaFailed):
    """A branch failed on it; others may still be served."""


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
