"""What is counted of adapters. Their names are labels, so they are bounded: only those that are served, and only so many."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from adapters.names import Adapter
from adapters.registry import Registry

LOAD_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
MAX_LABELS = 100
OTHER = "other"
"""The label of adapters beyond `MAX_LABELS`, and of those that are no longer served when their last requests end."""

STATES = ("serving", "inactive", "lost")


class AdapterMetrics(Collector):
    """An `adapters.ports.Observer`, and a collector that reads the registry when it is scraped.

    Args:
        registry: where the collectors are registered.
        on_forgotten: called with the name of an adapter that is no longer served.

    """

    def __init__(self, registry: CollectorRegistry, on_forgotten: Callable[[str], None]) -> None:
        self._adapters: Registry | None = None
        self._on_forgotten = on_forgotten
        self._names: set[str] = set()
        self._load_seconds = Histogram(
            "ponder_adapter_load_seconds", "Time to load a version into the engine.", ["adapter"], buckets=LOAD_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._swaps = Counter("ponder_adapter_swaps_total", "Switches of a name to a version.", ["adapter"], registry=registry)
        self._evictions = Counter(
            "ponder_adapter_evictions_total", "Idle versions that left the engine to make room.", ["adapter"], registry=registry
        )
        registry.register(self)

    def watch(self, adapters: Registry) -> None:
        """Export the state of these from now on."""
        self._adapters = adapters

    def label(self, name: str) -> str:
        """The adapter's own name as long as it is served, empty for the base model."""
        return name if name in self._names or not name else OTHER

    def loaded(self, name: str, seconds: float) -> None:
        """See `Observer`."""
        self._load_seconds.labels(self.label(name)).observe(seconds)

    def evicted(self, name: str) -> None:
        """See `Observer`."""
        self._evictions.labels(self.label(name)).inc()

    def served(self, name: str) -> None:
        """See `Observer`."""
        if len(self._names) < MAX_LABELS:
            self._names.add(name)

    def swapped(self, name: str) -> None:
        """See `Observer`."""
        self._swaps.labels(self.label(name)).inc()

    def removed(self, name: str) -> None:
        """See `Observer`."""
        if name in self._names:
            self._names.remove(name)
            for metric in (self._load_seconds, self._swaps, self._evictions):
                metric.remove_by_labels({"adapter": name})
            self._on_forgotten(name)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """State, versions in the engine and leases of every adapter that is served."""
        state = GaugeMetricFamily(
            "ponder_adapter_state", "1 for the state that the adapter is in.", labels=["adapter", "state"]
        )
        live = GaugeMetricFamily("ponder_adapter_versions_live", "Versions in the engine.", labels=["adapter"])
        leases = GaugeMetricFamily("ponder_adapter_leases", "Requests that run on the adapter.", labels=["adapter"])
        if self._adapters is not None:
            num_live: Tally[str] = Tally(dict.fromkeys(self._names, 0))
            num_leases = num_live.copy()
            for resident in self._adapters.residents():
                num_live[self.label(resident.version.name)] += 1
                num_leases[self.label(resident.version.name)] += resident.leases
            for adapter in self._adapters.adapters():
                if adapter.name in self._names:
                    for one in STATES:
                        state.add_metric([adapter.name, one], float(one == state_of(adapter)))
            for name in num_live:
                live.add_metric([name], num_live[name])
                leases.add_metric([name], num_leases[name])
        return [state, live, leases]


def state_of(adapter: Adapter) -> str:
    """One of `STATES`."""
    if adapter.current is None:
        return "inactive"
    return "lost" if adapter.current.version in adapter.unusable else "serving"
