"""The metrics of adapters.

The names of adapters are labels, and callers of the administration choose them. So that the page stays bounded, only adapters that
are served are named, and at most `MAX_LABELS` of them.
"""

import itertools
from collections import Counter as Tally
from collections.abc import Callable, Iterator

from adapters.leases import LoadedVersion
from adapters.names import RegisteredAdapter
from adapters.registry import AdapterRegistry
from app.telemetry.registry import Registry, Samples

LOAD_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
MAX_LABELS = 100
OTHER = "other"
"""The label of adapters beyond `MAX_LABELS`, and of adapters that were removed before their last requests ended."""

STATES = ("serving", "inactive", "lost")


class AdapterMetrics:
    """An `adapters.ports.Observer` that counts loads, swaps, evictions and failures, and exports the state of all adapters.

    Args:
        registry: where the metrics are registered.
        on_forgotten: called with the name of an adapter that is no longer served, so that its series leave the page.

    """

    def __init__(self, registry: Registry, on_forgotten: Callable[[str], None]) -> None:
        self._adapters: list[AdapterRegistry] = []
        self._on_forgotten = on_forgotten
        self._names: set[str] = set()
        by = ["adapter"]
        self._load_seconds = registry.histogram(
            "adapter_load_seconds", "Seconds to load a version into the engine.", LOAD_SECONDS, by
        )
        self._swaps = registry.counter("adapter_swaps_total", "Switches of a name to a version.", by)
        self._evictions = registry.counter("adapter_evictions_total", "Idle versions that left the engine to make room.", by)
        self._failures = registry.counter(
            "adapter_failures_total", "Versions that could not be loaded, or that compute values that are not numbers.", by
        )
        self._failures.labels(OTHER)
        registry.gauge("adapter_state", "1 for the state that the adapter is in.", self._states, ["adapter", "state"])
        registry.gauge(
            "adapter_behind",
            "1 where the front ends agreed on a version of the adapter that this one cannot serve.",
            self._behind,
            by,
        )
        registry.gauge("adapter_versions_live", "Versions in the engine.", self._live, by)
        registry.gauge("adapter_leases", "Requests that run on the adapter.", self._leases, by)

    def export_state(self, adapters: AdapterRegistry) -> None:
        """Read the gauges of adapters from this registry too, from now on."""
        self._adapters.append(adapters)

    def label(self, name: str) -> str:
        """Return the label of an adapter: its name while it is served, else `OTHER`. An empty name is the base model's."""
        return name if name in self._names or not name else OTHER

    def loaded(self, name: str, seconds: float) -> None:
        """Count the seconds that a version took to load."""
        self._load_seconds.labels(self.label(name)).observe(seconds)

    def evicted(self, name: str) -> None:
        """Count an idle version that left the engine."""
        self._evictions.labels(self.label(name)).inc()

    def failed(self, name: str) -> None:
        """Count a version that could not be loaded or that computes nonsense."""
        self._failures.labels(self.label(name)).inc()

    def served(self, name: str) -> None:
        """Name an adapter that is served from now on."""
        if len(self._names) < MAX_LABELS:
            self._names.add(name)
        for family in (self._swaps, self._evictions, self._failures):
            family.labels(self.label(name))  # appears at 0: a rate needs a value before the first event

    def swapped(self, name: str) -> None:
        """Count a switch of the name to another version."""
        self._swaps.labels(self.label(name)).inc()

    def removed(self, name: str) -> None:
        """Drop the series of an adapter that is no longer served."""
        if name in self._names:
            self._names.remove(name)
            # A first version that fails is never served, so failures of an adapter that is removed must stay visible.
            self._failures.labels(OTHER).inc(self._failures.labels(name).value)
            self._on_forgotten(name)

    def _all(self) -> Iterator[RegisteredAdapter]:
        """Return the adapters of all registries. Of one name, the first registry's is served."""
        found: dict[str, RegisteredAdapter] = {}
        for registry in self._adapters:
            for adapter in registry.adapters():
                found.setdefault(adapter.name, adapter)
        return iter(found.values())

    def _states(self) -> Samples:
        for adapter in self._all():
            if adapter.name in self._names:
                for state in STATES:
                    yield (adapter.name, state), float(state == state_of(adapter))

    def _behind(self) -> Samples:
        for adapter in self._all():
            if adapter.name in self._names:
                yield (adapter.name,), float(adapter.awaited is not None)

    def _live(self) -> Samples:
        return self._tally(lambda _loaded: 1)

    def _leases(self) -> Samples:
        return self._tally(lambda loaded: loaded.leases)

    def _tally(self, amount: Callable[[LoadedVersion], int]) -> Samples:
        """Return the sum of an amount over the versions in the engine, by adapter."""
        tally: Tally[str] = Tally(dict.fromkeys(self._names, 0))
        for loaded in itertools.chain(*(one.loaded_versions() for one in self._adapters)):
            tally[self.label(loaded.version.name)] += amount(loaded)
        return [((name,), num) for name, num in tally.items()]


def state_of(adapter: RegisteredAdapter) -> str:
    """Return the state of an adapter, one of `STATES`.

    `serving`: its current version answers. `inactive`: it has no current version. `lost`: the files of its current version are gone
    or do not fit the model.
    """
    if adapter.current is None:
        return "inactive"
    return "lost" if adapter.current.version in adapter.unusable else "serving"
