"""The engine's adapter slots: which versions are loaded, and which requests use them.

The engine has a number of slots. Never more versions than slots are given to it, so that it never evicts one by itself.
A request holds a lease on each version that it runs on. A version leaves the engine only while no request uses it:
because it was retired, or, least recently used first, to make room for another.

Leases are granted in the order of the requests wherever a slot has to be freed for them. When all slots are leased, one
of the loaded versions grants no new leases until it has made room. So requests for versions that are loaded already
cannot starve one that waits.

Names and ids of adapters in the engine are counted up and never used twice. Nothing here is persistent.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapters.errors import AdapterRefused, NoSlot
from adapters.leases import Lease, LoadedVersion, State
from adapters.ports import AdapterHost, EngineAdapter, Observer
from adapters.version import AdapterVersion

logger = logging.getLogger("ponder.adapters")

Resolve = Callable[[], Sequence[AdapterVersion]]
"""Returns the versions that a request needs. What it raises is raised by the request's lease."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request that waits for its lease.

    Attributes:
        resolve: called at each attempt to grant the lease, so that a name means what it means at that moment.
        granted: done with the versions, or with an error.
        versions: those that were granted.

    """

    resolve: Resolve
    granted: asyncio.Future[list[LoadedVersion]]
    versions: list[LoadedVersion] = field(default_factory=list)


class AdapterSlots:
    """The engine's slots.

    Args:
        host: the engine.
        find_folder: returns the folder of a version, checked just before it is loaded; raises `AdapterLost`.
        slots: how many versions the engine holds at the same time.
        max_wait: seconds that a lease may wait for a slot.
        observer: told of loads and evictions.

    """

    def __init__(
        self,
        host: AdapterHost,
        find_folder: Callable[[AdapterVersion], Awaitable[Path]],
        *,
        slots: int,
        max_wait: float,
        observer: Observer,
    ) -> None:
        self._host = host
        self._find_folder = find_folder
        self.slots = slots
        self._max_wait = max_wait
        self._observer = observer
        self._loaded: dict[str, LoadedVersion] = {}
        self._waiters: list[_Waiter] = []
        self._draining: LoadedVersion | None = None
        self._serial = itertools.count(1)
        self._tasks: asyncio.TaskGroup
        self._is_running = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load and unload versions within this block; leases that end after it change nothing in the engine."""
        async with asyncio.TaskGroup() as self._tasks:
            self._is_running = True
            try:
                yield
            finally:
                self._is_running = False

    def loaded_versions(self) -> list[LoadedVersion]:
        """Return all versions that have a slot, the one loaded first at the head."""
        return list(self._loaded.values())

    def loaded_version(self, version: AdapterVersion) -> LoadedVersion | None:
        """Return the version as it is in the engine, None when it has no slot."""
        return self._loaded.get(version.key)

    @asynccontextmanager
    async def lease(self, resolve: Resolve, *, max_wait: float | None = None) -> AsyncIterator[tuple[Lease, ...]]:
        """Hold all versions that `resolve` returns, for the length of the block. They are granted together.

        Args:
            resolve: returns the versions; called until the lease is granted.
            max_wait: seconds to wait for slots; never more than the server's own limit.

        Raises:
            NoSlot: no slot became free in time.
            AdapterRefused: there are more versions than slots.
            AdapterLost: the files of a version are gone.
            AdapterFailed: the engine would not load a version.

        """
        loaded = await self._acquire(resolve, self._max_wait if max_wait is None else min(self._max_wait, max_wait))
        try:
            yield tuple(Lease(one.version, one.adapter) for one in loaded)
        finally:
            self._release(loaded)

    async def _acquire(self, resolve: Resolve, max_wait: float) -> list[LoadedVersion]:
        waiter = _Waiter(resolve, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._grant_leases()
        try:
            async with asyncio.timeout(max_wait):
                return await waiter.granted
        except BaseException as error:
            if waiter.versions:  # the lease was granted at the moment at which the wait ended
                self._release(waiter.versions)
            if isinstance(error, TimeoutError):
                message = f"All {self.slots} adapter slots are in use by running requests."
                raise NoSlot(message, retry_after=max(1.0, max_wait / 4)) from None
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._grant_leases()

    def _release(self, loaded: list[LoadedVersion]) -> None:
        for one in loaded:
            one.leases -= 1
            one.last_used = time.monotonic()
            self._unload_if_retired(one)
        self._grant_leases()

    def is_in_the_way(self, version: AdapterVersion) -> bool:
        """Whether a lease on a version keeps others waiting: the version is to leave the engine, or a request waits for a slot."""
        loaded = self.loaded_version(version)
        return loaded is None or loaded.is_retired or bool(self._waiters)

    def retire(self, version: AdapterVersion) -> None:
        """Unload the version as soon as no request uses it."""
        if (loaded := self.loaded_version(version)) is not None:
            loaded.is_retired = True
            self._unload_if_retired(loaded)

    def keep(self, version: AdapterVersion) -> None:
        """Undo `retire`, if the version has not left yet."""
        if (loaded := self.loaded_version(version)) is not None:
            loaded.is_retired = False

    def _unload_if_retired(self, loaded: LoadedVersion) -> None:
        if self._is_running and loaded.is_retired and not loaded.leases and loaded.state is State.READY:
            self._unload(loaded)

    def _grant_leases(self, failed: str = "", error: Exception | None = None) -> None:
        """Grant all leases that can be granted now. Called whenever something has changed.

        Slots are freed for the first waiter alone that misses a version; the others wait until it has its lease.

        Args:
            failed: key of a version that has just failed to load.
            error: the reason, which all waiters for that version are given.

        """
        if not self._is_running:
            return
        self._draining = None  # chosen again below, if it is still needed
        first: list[AdapterVersion] | None = None
        for waiter in tuple(self._waiters):
            try:
                versions = self._resolve(waiter)
            except Exception as refusal:  # noqa: BLE001 - whatever it is, the waiter gets it
                self._refuse(waiter, refusal)
                continue
            if error is not None and failed in {version.key for version in versions}:
                self._refuse(waiter, error)
                continue
            loaded = [self._loaded.get(version.key) for version in versions]
            if all(one is not None and one.state is State.READY and one is not self._draining for one in loaded):
                self._grant(waiter, [one for one in loaded if one is not None])
            elif first is None:
                first = versions
                self._make_room(first)

    def _resolve(self, waiter: _Waiter) -> list[AdapterVersion]:
        versions = list(waiter.resolve())
        # Such a request would wait for ever. Adapters that are used twice in it need one slot.
        if len({version.key for version in versions}) > self.slots:
            message = f"This needs {len(versions)} adapters at the same time, and there are {self.slots} slots."
            raise AdapterRefused(message, parameter="ponder")
        return versions

    def _grant(self, waiter: _Waiter, loaded: list[LoadedVersion]) -> None:
        self._waiters.remove(waiter)
        if waiter.granted.done():  # the request was cancelled at the same moment
            return
        for one in loaded:
            one.leases += 1
        waiter.versions = loaded
        waiter.granted.set_result(loaded)

    def _refuse(self, waiter: _Waiter, error: Exception) -> None:
        self._waiters.remove(waiter)
        if not waiter.granted.done():
            waiter.granted.set_exception(error)

    def _make_room(self, versions: list[AdapterVersion]) -> None:
        """Load the missing ones of `versions` into free slots, and free one more slot if that is not enough.

        The end of each load and unload calls `_grant_leases` again, which calls this until all versions are there.
        """
        needed = {version.key: version for version in versions}
        missing = [version for key, version in needed.items() if key not in self._loaded]
        for version in missing[: self.slots - len(self._loaded)]:
            self._load(version)
        others = [one for key, one in self._loaded.items() if key not in needed and one.state is State.READY]
        num_leaving = sum(one.state is State.LEAVING for one in self._loaded.values())
        if len(self._loaded) - num_leaving + sum(version.key not in self._loaded for version in missing) <= self.slots:
            return
        idle = [one for one in others if not one.leases]
        if idle:
            evicted = min(idle, key=lambda one: one.last_used)
            self._observer.evicted(evicted.version.name)
            self._unload(evicted)
        elif others:
            # A retired version leaves anyway; otherwise the one that has been in the engine for longest makes room.
            self._draining = min(others, key=lambda one: (not one.is_retired, one.adapter.id))

    def _load(self, version: AdapterVersion) -> None:
        serial = next(self._serial)
        # The path follows when the files have been checked; the slot is taken at once.
        adapter = EngineAdapter(f"{version.id}#{serial}", serial, "", version.key)
        loaded = self._loaded[version.key] = LoadedVersion(version, adapter)
        self._tasks.create_task(self._loading(loaded))

    async def _loading(self, loaded: LoadedVersion) -> None:
        version, start = loaded.version, time.monotonic()
        try:
            path = await self._find_folder(version)
            loaded.adapter = replace(loaded.adapter, path=str(path))
            await self._host.load_adapter(loaded.adapter)
        except Exception as error:  # noqa: BLE001 - whatever it is, all who wait for the version get it
            logger.warning("adapter %s could not be loaded: %s", version.id, error)
            self._observer.failed(version.name)
            del self._loaded[version.key]
            self._grant_leases(version.key, error)
        else:
            loaded.state, loaded.last_used = State.READY, time.monotonic()
            self._observer.loaded(version.name, time.monotonic() - start)
            self._grant_leases()
            self._unload_if_retired(loaded)  # it may have been retired while it was loaded

    def _unload(self, loaded: LoadedVersion) -> None:
        loaded.state = State.LEAVING
        self._tasks.create_task(self._unloading(loaded))

    async def _unloading(self, loaded: LoadedVersion) -> None:
        try:
            await self._host.unload_adapter(loaded.adapter)
        except Exception as error:  # noqa: BLE001 - the engine is dead or dying, which is reported elsewhere
            logger.warning("adapter %s could not be unloaded: %s", loaded.version.id, error)
        del self._loaded[loaded.version.key]
        self._grant_leases()
