"""The ports through which adapters reach the engine that computes them and whoever counts what happens to them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EngineAdapter:
    """A version as the engine knows it: under a name and an id that it never sees again."""

    name: str
    id: int
    path: str


class AdapterHost(Protocol):
    """An engine that holds adapters. Its other errors than `AdapterFailed` mean that it is broken."""

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load it; raises `AdapterFailed`, and holds nothing of it then."""
        ...

    async def probe_adapter(self, adapter: EngineAdapter) -> None:
        """Generate one token with it; raises `AdapterFailed` when that does not give a finite probability."""
        ...

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Forget it and free what it took; nothing that runs may use it."""
        ...

    async def loaded_adapters(self) -> frozenset[int]:
        """Ids of those that it holds, by its own count."""
        ...


class Observer(Protocol):
    """Told what happens to adapters, for metrics; never blocks."""

    def served(self, name: str) -> None:
        """The name is served from now on, until it is `removed`; told more than once."""
        ...

    def loaded(self, name: str, seconds: float) -> None:
        """A version was loaded into the engine."""
        ...

    def failed(self, name: str) -> None:
        """A version could not be loaded into the engine, or computes nonsense there."""
        ...

    def evicted(self, name: str) -> None:
        """An idle version left the engine to make room."""
        ...

    def swapped(self, name: str) -> None:
        """The name stands for another version."""
        ...

    def removed(self, name: str) -> None:
        """The name is no longer served."""
        ...
