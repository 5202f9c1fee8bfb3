"""Adapters by name: which version each name stands for, and how that changes while requests run.

A swap loads the new version, probes it with one token, points the name on disk to it, and switches the name in memory
in one assignment. The old version leaves the engine when no request uses it any more. Whatever fails before the switch
leaves the old version serving. A request holds leases: a name is resolved when its lease is granted, and a lease never
changes its version.

Several servers may share the folder of adapters. Then they agree on each change before the name is pointed to the new
version, and each follows what another has changed.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from adapters.agreement import MAX_VERSIONS, AgreedVersions, Agreement, Alone, Change
from adapters.errors import AdapterConflict, AdapterError, AdapterFailed, AdapterLost, AdapterRefused, UnknownAdapter
from adapters.leases import Lease, LoadedVersion
from adapters.names import NAME, AdapterRef, RegisteredAdapter
from adapters.ports import AdapterHost, Observer
from adapters.slots import AdapterSlots
from adapters.store import GONE, AdapterStore
from adapters.upload import WriteFiles
from adapters.version import AdapterVersion

logger = logging.getLogger("ponder.adapters")

FOLLOW_WAIT_S = 5.0
"""Seconds that a version which all servers agreed on waits for a slot, before it is tried again later."""

GRACE_S = 60.0
"""Seconds after which the files of a version are removed that no server has come to serve."""

FILE_CHECK_S = 1.0
"""Seconds between two checks whether the files of all versions are still there."""


class AdapterRegistry:
    """All adapters of one server.

    Args:
        store: where they are kept.
        host: the engine that serves them.
        slots: how many versions the engine holds at the same time.
        max_wait: seconds that a request waits for a slot.
        reserved: names that no adapter may have.
        observer: told of what happens, for metrics.
        agreement: with the other servers that share the adapters.

    """

    def __init__(
        self,
        store: AdapterStore,
        host: AdapterHost,
        *,
        slots: int,
        max_wait: float,
        observer: Observer,
        reserved: frozenset[str] = frozenset(),
        agreement: Agreement | None = None,
    ) -> None:
        self._store = store
        self._agreement: Agreement = Alone() if agreement is None else agreement
        self._host = host
        self._slots = AdapterSlots(host, self._find_folder, slots=slots, max_wait=max_wait, observer=observer)
        self._observer = observer
        self._reserved = reserved
        self._adapters: dict[str, RegisteredAdapter] = {}
        self._unwanted: dict[str, tuple[AdapterVersion, float]] = {}
        # A lock lives for as long as a change of its name uses it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the stored adapters within this block.

        Versions that do not fit the base model are logged and not served.
        """
        for stored in await asyncio.to_thread(self._store.scan):
            adapter = self._adapters[stored.name] = RegisteredAdapter(stored.name)
            for version in sorted(stored.versions, key=lambda one: one.created):
                adapter.versions[version.version] = version
                if (why := await asyncio.to_thread(self._store.misfit, version)) is not None:
                    logger.warning("adapter %s cannot be served: %s", version.id, why)
                    adapter.unusable[version.version] = why
            adapter.current = adapter.versions.get(stored.current or "")
            if adapter.current is not None:
                self._observer.served(adapter.name)
        self._agreement.offer({adapter.name: _agreed(adapter) for adapter in self.adapters()})
        async with self._slots.running():
            watcher = asyncio.create_task(self._watch_files())
            try:
                await self._warm_up()
                yield
            finally:
                watcher.cancel()

    async def _warm_up(self) -> None:
        """Load the served versions into as many slots as there are, so that the first requests need not wait for it."""
        served = [adapter for adapter in self.adapters() if adapter.current and adapter.current.version not in adapter.unusable]
        for adapter in served[: self._slots.slots]:
            try:
                async with self.lease([AdapterRef(adapter.name)]):
                    pass
            except AdapterError as error:
                logger.warning("adapter %s: %s", adapter.name, error)

    def adapters(self) -> list[RegisteredAdapter]:
        """Return all adapters, sorted by name."""
        return [self._adapters[name] for name in sorted(self._adapters)]

    def adapter(self, name: str) -> RegisteredAdapter:
        """Return the adapter of that name; raises `UnknownAdapter`."""
        if name not in self._adapters:
            raise UnknownAdapter(f"There is no adapter `{name[:200]}`.", parameter="name")
        return self._adapters[name]

    def find(self, ref: AdapterRef) -> AdapterVersion:
        """Return the version that `ref` stands for at this moment; raises `UnknownAdapter`."""
        return self.adapter(ref.name).find(ref)

    @property
    def slots(self) -> int:
        """How many versions the engine can hold."""
        return self._slots.slots

    async def num_held(self) -> int:
        """Return how many versions the engine holds by its own count, which must agree with `loaded_versions`."""
        return len(await self._host.loaded_adapters())

    def loaded_versions(self) -> list[LoadedVersion]:
        """Return all versions that have a slot of the engine."""
        return self._slots.loaded_versions()

    def loaded_version(self, version: AdapterVersion) -> LoadedVersion | None:
        """Return the version as it is in the engine, None when it has no slot."""
        return self._slots.loaded_version(version)

    def is_in_the_way(self, version: AdapterVersion) -> bool:
        """Whether a lease on a version keeps others waiting; see `AdapterSlots.is_in_the_way`."""
        return self._slots.is_in_the_way(version)

    def lease(
        self, refs: Sequence[AdapterRef], *, max_wait: float | None = None
    ) -> AbstractAsyncContextManager[tuple[Lease, ...]]:
        """Hold the versions of all `refs` for the length of the block; see `AdapterSlots.lease`."""
        return self._slots.lease(lambda: [self.adapter(ref.name).usable(ref) for ref in refs], max_wait=max_wait)

    async def add(
        self, name: str, write_files: WriteFiles, *, source: str, activate: bool = True, keep_current: bool = False
    ) -> tuple[AdapterVersion, bool]:
        """Store a version and let the name stand for it; both happen or nothing does.

        Args:
            name: of the adapter.
            write_files: writes the files, see `AdapterStore.put`.
            source: where they come from, for the manifest.
            activate: whether the name shall stand for the version.
            keep_current: do not activate a version that is known already, unless the name is not served.

        Returns:
            The version, and whether it is new.

        Raises:
            AdapterRefused: it is not an adapter for the base model; `AdapterFailed` when it is the engine that refuses.
            NoSlot: there was no room in the engine to try it.

        """
        self.check_name(name)
        async with self._lock(name):
            version, is_new = await asyncio.to_thread(self._store.put, name, write_files, source)
            adapter = self._adapters.setdefault(name, RegisteredAdapter(name))
            version = adapter.versions.setdefault(version.version, version)
            adapter.unusable.pop(version.version, None)  # the store has replaced damaged files
            try:
                if activate and (is_new or adapter.current is None or not keep_current):
                    await self._switch(adapter, version, lambda agreed: agreed.serving(version.version))
                else:
                    await self._agreement.propose(name, lambda agreed: agreed.having(version.version))
            except BaseException:
                if is_new:
                    await self._take_back(adapter, version)
                raise
        return version, is_new

    async def _take_back(self, adapter: RegisteredAdapter, version: AdapterVersion) -> None:
        """Remove a version that was not to be served. Another server may be about to serve the same content: then later, if ever."""
        agreed = self._agreement.find(adapter.name)
        if agreed is None or version.version not in agreed.versions:
            self._forget_version(adapter, version)
        if self._agreement.is_shared:
            self._unwanted[version.key] = (version, time.monotonic() + GRACE_S)
        else:
            await asyncio.to_thread(self._store.remove, adapter.name, version)

    async def _remove_unwanted(self) -> None:
        for key, (version, due) in list(self._unwanted.items()):
            if time.monotonic() >= due:
                del self._unwanted[key]
                async with self._lock(version.name):
                    await self._remove_unshared(version.name, [version])

    def check_name(self, name: str) -> None:
        """Raise `AdapterRefused` for a name that no adapter can have."""
        if not NAME.fullmatch(name):
            message = "A name has 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`, and does not begin with a dot."
            raise AdapterRefused(message, parameter="name")
        if name in self._reserved:
            raise AdapterRefused(f"`{name}` is taken: by the base model, or by the server itself.", parameter="name")

    async def activate(self, name: str, pin: str) -> AdapterVersion:
        """Let the name stand for the version whose hash begins with `pin`, and return the version."""
        async with self._lock(name):
            adapter = self.adapter(name)
            version = adapter.usable(AdapterRef(name, pin))
            await self._switch(adapter, version, lambda agreed: agreed.activating(version.version))
        return version

    async def _switch(
        self, adapter: RegisteredAdapter, version: AdapterVersion, change: Change | None, max_wait: float | None = None
    ) -> None:
        """Serve a version. All servers agree on the `change` before this one switches; None where they have agreed already."""
        if adapter.current is version:
            self._slots.keep(version)  # it may have been retired when its files were gone for a moment
            if change is not None:
                await self._agreement.propose(adapter.name, change)
            return
        self._observer.served(adapter.name)  # before the load, so that metrics have the name as a label
        try:
            async with self.lease([AdapterRef(adapter.name, version.version)], max_wait=max_wait) as (lease,):
                await self._probe(version, lease)
                if change is not None:
                    await self._agreement.propose(adapter.name, change)
                # The disk first: after a kill in between, the next start serves the version that is on disk.
                await asyncio.to_thread(self._store.set_current, adapter.name, version)
                old, adapter.current, adapter.awaited = adapter.current, version, None
                self._slots.keep(version)
        finally:
            if adapter.current is None:
                self._observer.removed(adapter.name)
        if old is not None:
            self._slots.retire(old)
        self._observer.swapped(adapter.name)
        logger.info("adapter %s is now %s", adapter.name, version.id)

    async def _probe(self, version: AdapterVersion, lease: Lease) -> None:
        try:
            await self._host.probe_adapter(lease.adapter)
        except AdapterFailed:
            self._observer.failed(version.name)
            raise

    async def deactivate(self, name: str) -> None:
        """Stop serving the name; its versions are kept. Raises `UnknownAdapter` when it is not served."""
        async with self._lock(name):
            adapter = self.adapter(name)
            if adapter.current is None and adapter.awaited is None:
                raise UnknownAdapter(f"No version of the adapter `{name}` is being served.", parameter="name")
            await self._agreement.propose(name, lambda agreed: agreed.serving(None))
            await self._stop_serving(adapter)

    async def _stop_serving(self, adapter: RegisteredAdapter) -> None:
        adapter.awaited = None
        if adapter.current is not None:
            await asyncio.to_thread(self._store.set_current, adapter.name, None)
            self._slots.retire(adapter.current)
            adapter.current = None
            self._observer.removed(adapter.name)

    async def remove(self, ref: AdapterRef) -> None:
        """Delete an adapter, or one version of it. Requests that use it run to their end.

        Raises:
            UnknownAdapter: there is no such adapter or version.
            AdapterConflict: it is the version that the name stands for.

        """
        async with self._lock(ref.name):
            adapter = self.adapter(ref.name)
            gone = list(adapter.versions.values())
            if ref.pin is not None:
                gone = [version := adapter.find(ref)]
                if version is adapter.current:
                    message = f"`{version.id}` is being served: activate another version first, or delete the adapter."
                    raise AdapterConflict(message, parameter="version")
                await self._agreement.propose(ref.name, lambda agreed: agreed.without(version.version))
                self._forget_version(adapter, version)
            else:
                await self._agreement.propose(ref.name, lambda _: AgreedVersions())
                # In memory first: no new request may get a version whose files are about to go.
                self._forget(adapter)
            if not self._agreement.is_shared:
                await asyncio.to_thread(self._store.remove, ref.name, None if ref.pin is None else gone[0])
                return
        # Without the lock, which another server's delete may need here to go on.
        if not await self._agreement.is_followed(ref.name):
            logger.warning("the files of %s stay: another server may still use them", ref)
            return
        async with self._lock(ref.name):
            await self._remove_unshared(ref.name, gone)

    async def _remove_unshared(self, name: str, versions: Sequence[AdapterVersion]) -> None:
        """Remove the files of those versions that no server has stored again meanwhile."""
        agreed = self._agreement.find(name) or AgreedVersions()
        for version in versions:
            if version.version not in agreed.versions:
                await asyncio.to_thread(self._store.remove, name, version, is_last=not agreed.versions)

    def _forget(self, adapter: RegisteredAdapter) -> None:
        """Forget an adapter in memory and in the engine."""
        adapter.current = None
        del self._adapters[adapter.name]
        self._observer.removed(adapter.name)
        for version in adapter.versions.values():
            self._slots.retire(version)

    def _forget_version(self, adapter: RegisteredAdapter, version: AdapterVersion) -> None:
        adapter.versions.pop(version.version, None)
        if not adapter.versions:
            self._adapters.pop(adapter.name, None)
        self._slots.retire(version)

    async def follow(self, name: str) -> None:
        """Bring a name to what all servers have agreed on.

        A version that this server cannot load leaves the old one serving; the next call tries it again.
        """
        async with self._lock(name):
            agreed = self._agreement.find(name)
            if agreed is None:
                return
            adapter = self._adapters.get(name)
            if adapter is not None and not agreed.versions:
                self._forget(adapter)  # its files are removed by the server that was asked to
            if agreed.versions:
                adapter = self._adapters.setdefault(name, RegisteredAdapter(name))
                await self._follow_versions(adapter, agreed)
                await self._follow_current(adapter, agreed.current)

    async def _follow_versions(self, adapter: RegisteredAdapter, agreed: AgreedVersions) -> None:
        for pin in agreed.versions:
            if pin not in adapter.versions:
                version = await asyncio.to_thread(self._store.find, adapter.name, pin)
                if version is None:
                    continue
                adapter.versions[pin] = version
                if (why := await asyncio.to_thread(self._store.misfit, version)) is not None:
                    adapter.unusable[pin] = why
        for version in [one for pin, one in adapter.versions.items() if pin not in agreed.versions]:
            del adapter.versions[version.version]
            if version is not adapter.current:
                self._slots.retire(version)

    async def _follow_current(self, adapter: RegisteredAdapter, pin: str | None) -> None:
        if pin is None:
            await self._stop_serving(adapter)
            return
        try:
            if pin not in adapter.versions:
                raise AdapterLost(f"its files are not in {self._store.folder(adapter.name)}")
            await self._switch(adapter, adapter.usable(AdapterRef(adapter.name, pin)), None, FOLLOW_WAIT_S)
        except AdapterError as error:
            if adapter.awaited != pin:
                message = "adapter %s stays as it is: version %s, which all servers agreed on, cannot be served here: %s"
                logger.error(message, adapter.name, pin[:8], error)  # noqa: TRY400 - the message says all
            adapter.awaited = pin

    def _lock(self, name: str) -> asyncio.Lock:
        """Return the lock that lets one change of a name happen at a time. Requests never take it."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _find_folder(self, version: AdapterVersion) -> Path:
        """Return the folder of a version for the engine, after a full check: changed or missing files are never loaded.

        Raises `AdapterLost`, or `AdapterFailed` where replicas could not read it.
        """
        if (why := await asyncio.to_thread(self._store.check, version)) is not None:
            self._mark_lost(version, why)
            raise AdapterLost(f"The adapter version `{version.id}` is lost: {why}.", parameter="model")
        await asyncio.to_thread(self._store.publish, version)
        return self._store.path(version)

    def _mark_lost(self, version: AdapterVersion, why: str) -> None:
        if (adapter := self._adapters.get(version.name)) and version.version in adapter.versions:
            logger.error("adapter version %s is lost: %s", version.id, why)
            adapter.unusable[version.version] = why
            self._slots.retire(version)

    async def _watch_files(self) -> None:
        """Notice versions whose files somebody removes or puts back while the server runs.

        Requests that use them run to their end.
        """
        while True:
            await asyncio.sleep(FILE_CHECK_S)
            await self._remove_unwanted()
            known = [(adapter, version) for adapter in self.adapters() for version in adapter.versions.values()]
            intact = await asyncio.to_thread(lambda all_=known: [self._store.is_intact(version) for _, version in all_])  # type: ignore[misc]
            for (adapter, version), is_intact in zip(known, intact, strict=True):
                why = adapter.unusable.get(version.version)
                if not is_intact and why is None:
                    self._mark_lost(version, GONE)
                elif is_intact and why == GONE:
                    del adapter.unusable[version.version]


def _agreed(adapter: RegisteredAdapter) -> AgreedVersions:
    """Return what this server would have all agree on: what it found on its disk."""
    versions = tuple(adapter.versions)[-MAX_VERSIONS:]
    current = adapter.current.version if adapter.current and adapter.current.version in versions else None
    return AgreedVersions(versions=versions, current=current)
