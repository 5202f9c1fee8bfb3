"""What this front end shares with others through a store."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager

from adapters.agreement import AgreedVersions
from adapters.registry import AdapterRegistry
from app.shared.adapters import SharedAdapters
from app.shared.alone import Name, NotShared, PeerCall, PeerReply, Receive
from app.shared.front_ends import FrontEnds
from app.shared.policies import SharedPolicies
from app.shared.store import Store
from app.shared.table import SharedTable
from app.shared.traces import SharedTraces

logger = logging.getLogger("ponder.shared")

START_S = 5.0
"""Seconds that a start waits for the store. Without it, the front end starts with what it finds on its disk."""


class SharedState(NotShared):
    """What this front end shares with all that have the same store and prefix.

    Args:
        url: of the store.
        prefix: of all keys.
        own_url: where other front ends can call this one.
        keys: of callers and administrators; all front ends have the same.

    """

    def __init__(self, url: str, prefix: str, own_url: str, keys: Iterable[str] = ()) -> None:
        self._store = Store(url, prefix)
        self.runner = self._store
        self.front_ends = FrontEnds(self._store, own_url, hashlib.sha256("\0".join(sorted(keys)).encode()).digest())
        self.front_end = self.front_ends.id
        self.adapter_table = SharedTable(self._store, "adapters", AgreedVersions)
        self.traces = SharedTraces(self._store, self.front_ends)
        self.policies: SharedPolicies = SharedPolicies(self._store)
        self.front_ends.tables += [self.adapter_table, self.policies.table]
        self.adapters = SharedAdapters(self.adapter_table, self.front_ends)

    @property
    def is_up(self) -> bool:
        """Whether the store could be reached at the last beat."""
        return self.front_ends.is_up

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Share within this block. It begins when this front end has followed all others, or could not within `START_S`."""
        try:
            async with self.front_ends.running(self.traces.run()):
                try:
                    async with asyncio.timeout(START_S):
                        for table in self.front_ends.tables:
                            await table.has_caught_up.wait()
                except TimeoutError:
                    logger.warning("the start goes on without the shared state")
                yield
        finally:
            await self.traces.close()
            await self._store.close()

    async def returned(self) -> None:
        """Wait until this front end follows the others again."""
        while not (self.is_up and all(table.has_caught_up.is_set() for table in self.front_ends.tables)):
            await self.front_ends.next_beat()

    def has_died(self, front_end: str) -> bool:
        """Whether another front end has ended."""
        return self.front_ends.has_died(front_end)

    async def post(self, front_end: str, message: bytes) -> None:
        """Send a message to another front end, which has it with its next beat."""
        await self.front_ends.post(front_end, message)

    def receive(self, receive: Receive) -> None:
        """Call `receive` with each message that other front ends send to this one."""
        self.front_ends.receive = receive

    def publish_traces(self, names: Callable[[], Collection[Name]]) -> None:
        """Tell the other front ends the owners and ids of the traces that are kept here."""
        self.traces.names = names

    async def ask_for_trace(self, owner: str, trace_id: str, call: PeerCall) -> PeerReply | None:
        """Call the front end that has a trace."""
        return await self.traces.ask(owner, trace_id, call)

    def branches_elsewhere(self, owner: str) -> int:
        """Return how many branches of an owner the other front ends have admitted: what they said in their last beats."""
        return sum(other.branches.get(owner, 0) for other in self.front_ends.others().values())

    def publish_branches(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Tell the other front ends what `read` returns, in each beat."""
        self.front_ends.branches = read

    def is_held_elsewhere(self, content: str) -> bool:
        """Whether another front end has an adapter version of this content in its engine."""
        return self.front_ends.is_held_elsewhere(content)

    def follow_adapters(self, registry: AdapterRegistry) -> None:
        """Bring the registry to what all front ends have agreed on."""
        self.adapter_table.follow = registry.follow
        self.front_ends.held = lambda: [one.version.key for one in registry.loaded_versions()]

    def follow_policies(self, follow: Callable[[str], Awaitable[None]]) -> None:
        """Call `follow` with each name whose policies have changed."""
        self.policies.table.follow = follow
