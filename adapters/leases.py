"""What requests hold of the adapters in the engine: the versions that are loaded, and leases on them."""

from dataclasses import dataclass
from enum import StrEnum

from adapters.ports import EngineAdapter
from adapters.version import AdapterVersion


class State(StrEnum):
    """Where a version is on its way through the engine."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(slots=True, eq=False)
class LoadedVersion:
    """A version that has a slot of the engine.

    Attributes:
        adapter: how the engine knows it.
        leases: how many requests use it.
        last_used: when the last lease ended or the load was finished, by the monotonic clock.
        is_retired: whether it leaves the engine as soon as no request uses it.

    """

    version: AdapterVersion
    adapter: EngineAdapter
    state: State = State.LOADING
    leases: int = 0
    last_used: float = 0.0
    is_retired: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """A request's hold on one version, which stays in the engine and never changes until the lease ends."""

    version: AdapterVersion
    adapter: EngineAdapter

    @property
    def cache_salt(self) -> str:
        """Keeps cached prefixes of this version apart from those of all others: the hash of its content."""
        return self.version.version
