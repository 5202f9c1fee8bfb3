"""What is counted of adapters. Their names are labels, so they are bounded: only those that are served, and only so many."""

from collections import Counter as Tally
from collections.abc import Callable

from adapters.names import Adapter
from adapters.registry import AdapterRegistry
from adapters.residency import Resident
from app.telemetry.registry import Page, Readings

LOAD_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
MAX_LABELS = 100
OTHER = "other"
"""The label of adapters beyond `MAX_LABELS`, and of those that are no longer served when their last requests end."""

STATES = ("serving", "inactive", "lost")


class AdapterMetrics:
    """An `adapters.ports.Observer`; the registry's state is read when the page is.

    Args:
        page: where it is all shown.
        on_forgotten: called with the name of an adapter that is no longer served: its series are to leave the page.

    """

    def __init__(self, page: Page, on_forgotten: Callable[[str], None]) -> None:
        self._adapters: AdapterRegistry | None = None
        self._on_forgotten = on_forgotten
        self._names: set[str] = set()
        by = ["adapter"]
        self._load_seconds = page.histogram("adapter_load_seconds", "Time to load a version into the engine.", LOAD_SECONDS, by)
        self._swaps = page.counter("adapter_swaps_total", "Switches of a name to a version.", by)
        self._evictions = page.counter("adapter_evictions_total", "Idle versions that left the engine to make room.", by)
        self._failures = page.counter("adapter_failures_total", "Versions that could not be loaded, or compute nonsense.", by)
        self._failures.labels(OTHER)
        page.gauge("adapter_state", "1 for the state that the adapter is in.", self._states, ["adapter", "state"])
        page.gauge("adapter_versions_live", "Versions in the engine.", self._live, by)
        page.gauge("adapter_leases", "Requests that run on the adapter.", self._leases, by)

    def watch(self, adapters: AdapterRegistry) -> None:
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

    def failed(self, name: str) -> None:
        """See `Observer`."""
        self._failures.labels(self.label(name)).inc()

    def served(self, name: str) -> None:
        """See `Observer`."""
        if len(self._names) < MAX_LABELS:
            self._names.add(name)
        for family in (self._swaps, self._evictions, self._failures):
            family.labels(self.label(name))  # 0 is a value, too

    def swapped(self, name: str) -> None:
        """See `Observer`."""
        self._swaps.labels(self.label(name)).inc()

    def removed(self, name: str) -> None:
        """See `Observer`."""
        if name in self._names:
            self._names.remove(name)
            self._failures.labels(OTHER).inc(self._failures.labels(name).value)  # a first version that fails is never served
            self._on_forgotten(name)

    def _states(self) -> Readings:
        for adapter in self._adapters.adapters() if self._adapters is not None else ():
            if adapter.name in self._names:
                for one in STATES:
                    yield (adapter.name, one), float(one == state_of(adapter))

    def _live(self) -> Readings:
        return self._tally(lambda _resident: 1)

    def _leases(self) -> Readings:
        return self._tally(lambda resident: resident.leases)

    def _tally(self, amount: Callable[[Resident], int]) -> Readings:
        """Added up by adapter, over the versions in the engine."""
        tally: Tally[str] = Tally(dict.fromkeys(self._names, 0))
        for resident in self._adapters.residents() if self._adapters is not None else ():
            tally[self.label(resident.version.name)] += amount(resident)
        return [((name,), num) for name, num in tally.items()]


def state_of(adapter: Adapter) -> str:
    """One of `STATES`."""
    if adapter.current is None:
        return "inactive"
    return "lost" if adapter.current.version in adapter.unusable else "serving"
