"""The ports of adapters: to the engine that computes them, and to an observer that counts what happens to them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class EngineAdapter:
    """A version as the engine knows it.

    Name and id are never used twice in one server, also not for the same version.

    Attributes:
        path: its folder.
        content: the version's name and the hash of its content. Servers that share an engine know it by this.

    """

    name: str
    id: int
    path: str
    content: str = ""


class AdapterHost(Protocol):
    """An engine that holds adapters. Errors other than `AdapterFailed` mean that the engine is broken."""

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load an adapter; raises `AdapterFailed`, and then the engine holds nothing of it."""
        ...

    async def probe_adapter(self, adapter: EngineAdapter) -> None:
        """Generate one token with an adapter; raises `AdapterFailed` when its probability is not finite."""
        ...

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Remove an adapter from the engine. The caller makes sure that no request uses it."""
        ...

    async def loaded_adapters(self) -> frozenset[int]:
        """Return the ids of the adapters that the engine holds."""
        ...


@runtime_checkable
class SharedHost(Protocol):
    """A host that several servers share: a version that one of them unloads may be in use by another."""

    def share(self, is_held_elsewhere: Callable[[str], bool]) -> None:
        """From now on, keep what `is_held_elsewhere` is true for; it is given an adapter's `content`."""
        ...


class Observer(Protocol):
    """Told what happens to adapters, for metrics. Its methods never block."""

    def served(self, name: str) -> None:
        """The name is served from now on, until it is `removed`; may be called again meanwhile."""
        ...

    def loaded(self, name: str, seconds: float) -> None:
        """A version was loaded into the engine."""
        ...

    def failed(self, name: str) -> None:
        """A version could not be loaded into the engine, or its probe failed."""
        ...

    def evicted(self, name: str) -> None:
        """An idle version left the engine to make room."""
        ...

    def swapped(self, name: str) -> None:
        """The name stands for another version from now on."""
        ...

    def removed(self, name: str) -> None:
        """The name is no longer served."""
        ...
