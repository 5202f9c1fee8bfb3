"""Which versions the engine holds, and who runs on them.

The engine has a number of slots, and never more versions than slots, so that it never evicts one by itself. Whoever runs on a version
holds a lease; a version leaves the engine only when nobody does: because it was retired, or, least recently used first, to make room.
Leases are granted in the order in which they were asked for, as far as slots are needed. When all slots are leased, the version that
came first takes no new leases until it has made room: so nobody who waits is starved by those whose version is there already.

Engine-side names and ids are counted up and never used twice. Nothing here is persistent.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from adapters.errors import AdapterRefused, NoSlot
from adapters.ports import AdapterHost, EngineAdapter, Observer
from adapters.version import AdapterVersion

logger = logging.getLogger("ponder.adapters")


class State(StrEnum):
    """Where a version is on its way through the engine."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(slots=True, eq=False)
class Resident:
    """A version in the engine. `is_retired`: leaves as soon as nobody runs on it."""

    version: AdapterVersion
    adapter: EngineAdapter
    state: State = State.LOADING
    leases: int = 0
    last_used: float = 0.0
    is_retired: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on one version: it stays in the engine, and stays what it is, until the lease ends.

    `cache_salt` separates its cached prefixes from those of every other version, also where the engine would not.
    """

    version: AdapterVersion
    adapter: EngineAdapter

    @property
    def cache_salt(self) -> str:
        """The content's hash: other content, other salt."""
        return self.version.version


@dataclass(slots=True, eq=False)
class _Turn:
    """Somebody who waits. `wanted` is asked again each time, so that a name means what it means when the turn comes."""

    wanted: Callable[[], Sequence[AdapterVersion]]
    granted: asyncio.Future[list[Resident]]
    residents: list[Resident] = field(default_factory=list)


class Residency:
    """The engine's slots.

    Args:
        host: the engine.
        locate: the folder of a version, checked just before it is loaded; raises `AdapterLost`.
        slots: versions that the engine holds at the same time.
        max_wait: seconds that a lease may wait for a slot.
        observer: told of loads and evictions.

    """

    def __init__(
        self,
        host: AdapterHost,
        locate: Callable[[AdapterVersion], Awaitable[Path]],
        *,
        slots: int,
        max_wait: float,
        observer: Observer,
    ) -> None:
        self._host = host
        self._locate = locate
        self.slots = slots
        self._max_wait = max_wait
        self._observer = observer
        self._residents: dict[str, Resident] = {}
        self._turns: list[_Turn] = []
        self._closing: Resident | None = None
        self._serial = itertools.count(1)
        self._group: asyncio.TaskGroup
        self._is_running = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within this block versions are loaded and unloaded; leases that end after it change nothing in the engine."""
        async with asyncio.TaskGroup() as self._group:
            self._is_running = True
            try:
                yield
            finally:
                self._is_running = False

    def residents(self) -> list[Resident]:
        """What the engine holds, first come first."""
        return list(self._residents.values())

    def resident(self, version: AdapterVersion) -> Resident | None:
        """The version in the engine, None when it is not there."""
        return self._residents.get(version.key)

    @asynccontextmanager
    async def lease(
        self, wanted: Callable[[], Sequence[AdapterVersion]], *, patience: float | None = None
    ) -> AsyncIterator[tuple[Lease, ...]]:
        """Hold all `wanted` versions together, for the length of the block.

        Args:
            wanted: says which; called until the lease is granted, and what it raises is raised.
            patience: seconds to wait for slots, at most `max_wait`.

        Raises:
            NoSlot: no slot became free in time.
            AdapterLost: a version is no longer there to be loaded.
            AdapterFailed: the engine would not load one.

        """
        residents = await self._acquire(wanted, self._max_wait if patience is None else min(self._max_wait, patience))
        try:
            yield tuple(Lease(resident.version, resident.adapter) for resident in residents)
        finally:
            self._release(residents)

    async def _acquire(self, wanted: Callable[[], Sequence[AdapterVersion]], patience: float) -> list[Resident]:
        turn = _Turn(wanted, asyncio.get_running_loop().create_future())
        self._turns.append(turn)
        self._advance()
        try:
            async with asyncio.timeout(patience):
                return await turn.granted
        except BaseException as error:
            if turn.residents:  # granted in the same moment
                self._release(turn.residents)
            if isinstance(error, TimeoutError):
                message = f"All {self.slots} adapter slots are in use by running requests."
                raise NoSlot(message, retry_after=max(1.0, patience / 4)) from None
            raise
        finally:
            if turn in self._turns:
                self._turns.remove(turn)
                self._advance()

    def _release(self, residents: list[Resident]) -> None:
        for resident in residents:
            resident.leases -= 1
            resident.last_used = time.monotonic()
            self._leave_if_retired(resident)
        self._advance()

    def retire(self, version: AdapterVersion) -> None:
        """Let the version leave the engine as soon as nobody runs on it."""
        if (resident := self.resident(version)) is not None:
            resident.is_retired = True
            self._leave_if_retired(resident)

    def keep(self, version: AdapterVersion) -> None:
        """Take a retirement back."""
        if (resident := self.resident(version)) is not None:
            resident.is_retired = False

    def _leave_if_retired(self, resident: Resident) -> None:
        if self._is_running and resident.is_retired and not resident.leases and resident.state is State.READY:
            self._leave(resident)

    def _advance(self, failed: str = "", error: Exception | None = None) -> None:
        """Grant what can be granted. The first who misses something holds the line: slots are freed for nobody else before.

        Whoever wants the version that has just `failed` to load is told so.
        """
        if not self._is_running:
            return
        self._closing = None
        first: list[AdapterVersion] | None = None
        for turn in tuple(self._turns):
            try:
                versions = self._possible(turn)
            except Exception as refusal:  # noqa: BLE001 - told to whoever waits
                self._refuse(turn, refusal)
                continue
            if error is not None and failed in {version.key for version in versions}:
                self._refuse(turn, error)
                continue
            residents = [self._residents.get(version.key) for version in versions]
            if all(one is not None and one.state is State.READY and one is not self._closing for one in residents):
                self._grant(turn, [one for one in residents if one is not None])
            elif first is None:
                first = versions
                self._make_room(first)

    def _possible(self, turn: _Turn) -> list[AdapterVersion]:
        versions = list(turn.wanted())
        if len({version.key for version in versions}) > self.slots:
            message = f"This needs {len(versions)} adapters at the same time, and there are {self.slots} slots."
            raise AdapterRefused(message, parameter="ponder")
        return versions

    def _grant(self, turn: _Turn, residents: list[Resident]) -> None:
        self._turns.remove(turn)
        if turn.granted.done():  # given up in the same moment
            return
        for resident in residents:
            resident.leases += 1
        turn.residents = residents
        turn.granted.set_result(residents)

    def _refuse(self, turn: _Turn, error: Exception) -> None:
        self._turns.remove(turn)
        if not turn.granted.done():
            turn.granted.set_exception(error)

    def _make_room(self, versions: list[AdapterVersion]) -> None:
        """Load what is missing of `versions` as far as slots are free, else free one; goes on when that has happened."""
        wanted = {version.key: version for version in versions}
        missing = [version for key, version in wanted.items() if key not in self._residents]
        for version in missing[: self.slots - len(self._residents)]:
            self._load(version)
        others = [one for key, one in self._residents.items() if key not in wanted and one.state is State.READY]
        num_leaving = sum(one.state is State.LEAVING for one in self._residents.values())
        if len(self._residents) - num_leaving + sum(version.key not in self._residents for version in missing) <= self.slots:
            return
        idle = [one for one in others if not one.leases]
        if idle:
            evicted = min(idle, key=lambda one: one.last_used)
            self._observer.evicted(evicted.version.name)
            self._leave(evicted)
        elif others:
            self._closing = min(others, key=lambda one: (not one.is_retired, one.adapter.id))

    def _load(self, version: AdapterVersion) -> None:
        serial = next(self._serial)
        adapter = EngineAdapter(f"{version.id}#{serial}", serial, "")
        resident = self._residents[version.key] = Resident(version, adapter)
        self._group.create_task(self._loading(resident))

    async def _loading(self, resident: Resident) -> None:
        version, start = resident.version, time.monotonic()
        try:
            path = await self._locate(version)
            resident.adapter = replace(resident.adapter, path=str(path))
            await self._host.load_adapter(resident.adapter)
        except Exception as error:  # noqa: BLE001 - told to all who wait for it
            logger.warning("adapter %s could not be loaded: %s", version.id, error)
            self._observer.failed(version.name)
            del self._residents[version.key]
            self._advance(version.key, error)
        else:
            resident.state, resident.last_used = State.READY, time.monotonic()
            self._observer.loaded(version.name, time.monotonic() - start)
            self._advance()
            self._leave_if_retired(resident)

    def _leave(self, resident: Resident) -> None:
        resident.state = State.LEAVING
        self._group.create_task(self._leaving(resident))

    async def _leaving(self, resident: Resident) -> None:
        try:
            await self._host.unload_adapter(resident.adapter)
        except Exception as error:  # noqa: BLE001 - the engine is dead or dying, which others report
            logger.warning("adapter %s could not be unloaded: %s", resident.version.id, error)
        del self._residents[resident.version.key]
        self._advance()
