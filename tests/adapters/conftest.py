"""A store, a registry over a fake host, and adapters that fit the scripted engine's model."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from adapters.registry import AdapterRegistry
from adapters.store import AdapterStore
from adapters.upload import from_operator_folder
from adapters.weights import BaseModel
from app.engine.scripted import SMALL
from tests import peft_folder

BASE = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)
MAX_BYTES = 1 << 20


@dataclass
class FakeHost:
    """An engine that holds adapters, and refuses them when a test asks for it.

    Attributes:
        held: the adapters in the engine, by id.
        loads: all adapters that were ever to be loaded.
        refuses: "load" or "probe", which then fails.
        gate: loads wait for it while it is cleared.

    """

    slots: int
    held: dict[int, EngineAdapter] = field(default_factory=dict)
    loads: list[EngineAdapter] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        self.loads.append(adapter)
        await self.gate.wait()
        if "load" in self.refuses:
            raise AdapterFailed("refused")
        self.held[adapter.id] = adapter
        assert len(self.held) <= self.slots

    async def probe_adapter(self, adapter: EngineAdapter) -> None:
        assert adapter.id in self.held
        if "probe" in self.refuses:
            raise AdapterFailed("nonsense")

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        await asyncio.sleep(0)
        del self.held[adapter.id]

    async def loaded_adapters(self) -> frozenset[int]:
        return frozenset(self.held)


@dataclass
class RecordingObserver:
    """An `Observer` that keeps what it is told."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def served(self, name: str) -> None:
        self.events.append(("served", name))

    def loaded(self, name: str, seconds: float) -> None:
        assert seconds >= 0
        self.events.append(("loaded", name))

    def failed(self, name: str) -> None:
        self.events.append(("failed", name))

    def evicted(self, name: str) -> None:
        self.events.append(("evicted", name))

    def swapped(self, name: str) -> None:
        self.events.append(("swapped", name))

    def removed(self, name: str) -> None:
        self.events.append(("removed", name))


@dataclass
class World:
    """A registry with its parts: the engine, the observer, the store's folder, and one for made adapters."""

    registry: AdapterRegistry
    host: FakeHost
    observer: RecordingObserver
    root: Path
    source: Path

    def files(self, seed: int):
        """Return a `WriteFiles` of an adapter whose content depends on `seed`."""
        folder = self.source / str(seed)
        if not folder.exists():
            peft_folder.write(folder, BASE, seed=seed)
        return from_operator_folder(folder, MAX_BYTES)

    async def add(self, name: str, seed: int, **fields: object):
        """Add an adapter of that seed, and return its version."""
        version, _ = await self.registry.add(name, self.files(seed), source="test", **fields)
        return version


@pytest.fixture
def store(tmp_path: Path):
    """`store(**fields)`: a store in a folder that stays the same within a test."""

    def of(**fields: object) -> AdapterStore:
        return AdapterStore(tmp_path / "root", BASE, max_rank=16, **fields)

    return of


@pytest.fixture
def world(tmp_path: Path, store):
    """`async with world(slots=2) as w`."""

    @asynccontextmanager
    async def running(slots: int = 2, max_wait: float = 30) -> AsyncIterator[World]:
        host, observer = FakeHost(slots), RecordingObserver()
        host.gate.set()
        registry = AdapterRegistry(
            store(), host, slots=slots, max_wait=max_wait, observer=observer, reserved=frozenset({"scripted"})
        )
        async with registry.running():
            yield World(registry, host, observer, tmp_path / "root", tmp_path / "source")

    return running


@pytest.fixture
def folder(tmp_path: Path):
    """`folder(seed=…, ponder_config=…, **config)`: a peft folder that fits the base, with a `ponder.json` of that content if given."""

    def of(name: str = "adapter", *, ponder_config: object = None, **fields: object) -> Path:
        place = peft_folder.write(tmp_path / name, BASE, **fields)
        if ponder_config is not None:
            (place / "ponder.json").write_text(json.dumps(ponder_config))
        return place

    return of
