"""Adapters by name: what each name stands for, and how that changes while requests run.

A swap is: load the new version, probe it with one token, point the name on disk, switch the name in memory in one assignment, and let the
old version leave the engine when nobody runs on it any more. Whatever fails before the switch leaves the old version serving. Requests
hold leases; a name is resolved when the lease is granted, and the lease never changes its version.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from adapters.errors import AdapterConflict, AdapterError, AdapterFailed, AdapterLost, AdapterRefused, UnknownAdapter
from adapters.names import NAME, Adapter, AdapterRef
from adapters.ports import AdapterHost, Observer
from adapters.residency import Lease, Residency, Resident
from adapters.store import GONE, AdapterStore
from adapters.upload import Fill
from adapters.version import AdapterVersion

logger = logging.getLogger("ponder.adapters")

LOST_CHECK_S = 1.0


class AdapterRegistry:
    """All adapters of one server.

    Args:
        store: where they are kept.
        host: the engine that serves them.
        slots: versions that the engine holds at the same time.
        max_wait: seconds that a request waits for a slot.
        reserved: names that no adapter may have.
        observer: told of what happens, for metrics.

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
    ) -> None:
        self._store = store
        self._host = host
        self._residency = Residency(host, self._locate, slots=slots, max_wait=max_wait, observer=observer)
        self._observer = observer
        self._reserved = reserved
        self._adapters: dict[str, Adapter] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve, within this block, what was served before; versions that no longer fit are told, not served."""
        for shelf in await asyncio.to_thread(self._store.scan):
            adapter = self._adapters[shelf.name] = Adapter(shelf.name)
            for version in sorted(shelf.versions, key=lambda one: one.created):
                adapter.versions[version.version] = version
                if (why := await asyncio.to_thread(self._store.misfit, version)) is not None:
                    logger.warning("adapter %s cannot be served: %s", version.id, why)
                    adapter.unusable[version.version] = why
            adapter.current = adapter.versions.get(shelf.current or "")
            if adapter.current is not None:
                self._observer.served(adapter.name)
        async with self._residency.running():
            watcher = asyncio.create_task(self._watch_files())
            try:
                await self._warm()
                yield
            finally:
                watcher.cancel()

    async def _warm(self) -> None:
        """Load what is served, as far as there are slots, so that the first requests need not wait."""
        served = [adapter for adapter in self.adapters() if adapter.current and adapter.current.version not in adapter.unusable]
        for adapter in served[: self._residency.slots]:
            try:
                async with self.lease([AdapterRef(adapter.name)]):
                    pass
            except AdapterError as error:
                logger.warning("adapter %s: %s", adapter.name, error)

    def adapters(self) -> list[Adapter]:
        """All of them, by name."""
        return [self._adapters[name] for name in sorted(self._adapters)]

    def adapter(self, name: str) -> Adapter:
        """The adapter of that name; raises `UnknownAdapter`."""
        if name not in self._adapters:
            raise UnknownAdapter(f"There is no adapter `{name[:200]}`.", parameter="name")
        return self._adapters[name]

    def residents(self) -> list[Resident]:
        """The versions in the engine."""
        return self._residency.residents()

    @property
    def slots(self) -> int:
        """Versions that the engine can hold."""
        return self._residency.slots

    async def num_held(self) -> int:
        """Versions that the engine holds, by its own count."""
        return len(await self._host.loaded_adapters())

    def resident(self, version: AdapterVersion) -> Resident | None:
        """The version in the engine, None when it is not there."""
        return self._residency.resident(version)

    def find(self, ref: AdapterRef) -> AdapterVersion:
        """What `ref` stands for at this moment; raises `UnknownAdapter`."""
        return self.adapter(ref.name).find(ref)

    def _version(self, ref: AdapterRef) -> AdapterVersion:
        return self.adapter(ref.name).usable(ref)

    def lease(
        self, refs: Sequence[AdapterRef], *, patience: float | None = None
    ) -> AbstractAsyncContextManager[tuple[Lease, ...]]:
        """Hold the versions of all `refs` for the length of the block; see `Residency.lease`."""
        return self._residency.lease(lambda: [self._version(ref) for ref in refs], patience=patience)

    async def add(
        self, name: str, fill: Fill, *, source: str, activate: bool = True, keeps_choice: bool = False
    ) -> tuple[AdapterVersion, bool]:
        """Take a version in, say whether it is new, and let the name stand for it; all of that or nothing.

        Args:
            name: of the adapter.
            fill: writes the files, see `AdapterStore.put`.
            source: told in the manifest.
            activate: whether the name shall stand for it.
            keeps_choice: but not when the version is known and the name stands for another one.

        Raises:
            AdapterRefused: it is not an adapter for the base model; `AdapterFailed` when it is the engine that refuses.
            NoSlot: there was no room in the engine to try it.

        """
        self.check_name(name)
        async with self._lock(name):
            version, is_new = await asyncio.to_thread(self._store.put, name, fill, source)
            adapter = self._adapters.setdefault(name, Adapter(name))
            version = adapter.versions.setdefault(version.version, version)
            adapter.unusable.pop(version.version, None)
            if activate and (is_new or adapter.current is None or not keeps_choice):
                try:
                    await self._switch(adapter, version)
                except BaseException:
                    if is_new:
                        await self._drop(adapter, version)
                    raise
        return version, is_new

    def check_name(self, name: str) -> None:
        """Raise `AdapterRefused` for a name that no adapter can have."""
        if not NAME.fullmatch(name):
            message = "A name has 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`, and does not begin with a dot."
            raise AdapterRefused(message, parameter="name")
        if name in self._reserved:
            raise AdapterRefused(f"`{name}` is taken: by the base model, or by the server itself.", parameter="name")

    async def activate(self, name: str, pin: str) -> AdapterVersion:
        """Let the name stand for one of its versions."""
        async with self._lock(name):
            adapter = self.adapter(name)
            version = adapter.usable(AdapterRef(name, pin))
            await self._switch(adapter, version)
        return version

    async def _switch(self, adapter: Adapter, version: AdapterVersion) -> None:
        if adapter.current is version:
            self._residency.keep(version)
            return
        self._observer.served(adapter.name)
        try:
            async with self.lease([AdapterRef(adapter.name, version.version)]) as (lease,):
                await self._probe(version, lease)
                await asyncio.to_thread(self._store.set_current, adapter.name, version)
                old, adapter.current = adapter.current, version
                self._residency.keep(version)
        finally:
            if adapter.current is None:
                self._observer.removed(adapter.name)
        if old is not None:
            self._residency.retire(old)
        self._observer.swapped(adapter.name)
        logger.info("adapter %s is now %s", adapter.name, version.id)

    async def _probe(self, version: AdapterVersion, lease: Lease) -> None:
        try:
            await self._host.probe_adapter(lease.adapter)
        except AdapterFailed:
            self._observer.failed(version.name)
            raise

    async def deactivate(self, name: str) -> None:
        """Stop serving the name; its versions are kept."""
        async with self._lock(name):
            adapter = self.adapter(name)
            if adapter.current is None:
                raise UnknownAdapter(f"No version of the adapter `{name}` is being served.", parameter="name")
            await asyncio.to_thread(self._store.set_current, name, None)
            old, adapter.current = adapter.current, None
            self._residency.retire(old)
            self._observer.removed(name)

    async def remove(self, ref: AdapterRef) -> None:
        """Delete an adapter, or one version that it does not stand for. What runs on it runs to its end."""
        async with self._lock(ref.name):
            adapter = self.adapter(ref.name)
            if ref.pin is not None:
                version = adapter.find(ref)
                if version is adapter.current:
                    message = f"`{version.id}` is being served: activate another version first, or delete the adapter."
                    raise AdapterConflict(message, parameter="version")
                await self._drop(adapter, version)
                return
            adapter.current = None
            del self._adapters[ref.name]
            self._observer.removed(ref.name)
            for version in adapter.versions.values():
                self._residency.retire(version)
            await asyncio.to_thread(self._store.remove, ref.name)

    async def _drop(self, adapter: Adapter, version: AdapterVersion) -> None:
        adapter.versions.pop(version.version, None)
        if not adapter.versions:
            self._adapters.pop(adapter.name, None)
        self._residency.retire(version)
        await asyncio.to_thread(self._store.remove, adapter.name, version)

    def _lock(self, name: str) -> asyncio.Lock:
        """One change of a name at a time; requests never take it."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _locate(self, version: AdapterVersion) -> Path:
        """Read the version once more before the engine does: what was changed or taken away is told as that, and never loaded."""
        if (why := await asyncio.to_thread(self._store.check, version)) is not None:
            self._lose(version, why)
            raise AdapterLost(f"The adapter version `{version.id}` is lost: {why}.", parameter="model")
        return self._store.path(version)

    def _lose(self, version: AdapterVersion, why: str) -> None:
        if (adapter := self._adapters.get(version.name)) and version.version in adapter.versions:
            logger.error("adapter version %s is lost: %s", version.id, why)
            adapter.unusable[version.version] = why
            self._residency.retire(version)

    async def _watch_files(self) -> None:
        """Notice versions whose files are taken away behind the server's back, or put back; runs on them end in peace."""
        while True:
            await asyncio.sleep(LOST_CHECK_S)
            there = [(adapter, version) for adapter in self.adapters() for version in adapter.versions.values()]
            intact = await asyncio.to_thread(lambda all_=there: [self._store.is_intact(version) for _, version in all_])  # type: ignore[misc]
            for (adapter, version), is_intact in zip(there, intact, strict=True):
                known = adapter.unusable.get(version.version)
                if not is_intact and known is None:
                    self._lose(version, GONE)
                elif is_intact and known == GONE:
                    del adapter.unusable[version.version]
