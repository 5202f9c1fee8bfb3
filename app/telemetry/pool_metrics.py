"""Gauges of the base models of one server: of their engines, their admissions and their replicas. Each has the label `model`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from app.admission import Admission
from app.engine.base import Engine
from app.engine.replica import ReplicaStatus
from app.telemetry.registry import Registry, Samples

VERSION = metadata.version("ponder")


@dataclass(frozen=True, slots=True)
class _Pool:
    engine: Engine
    admission: Admission


_GAUGES: tuple[tuple[str, str, Callable[[_Pool], float | None]], ...] = (
    ("branches_running", "Branches that hold a slot of the engine.", lambda one: one.admission.num_running),
    ("branches_waiting", "Branches that wait for a slot.", lambda one: one.admission.num_waiting),
    ("branch_slots", "Branches that the engine runs at the same time.", lambda one: one.admission.num_slots),
    ("load_ratio", "Admitted branches as a share of the most that are admitted.", lambda one: one.admission.load),
    ("engine_up", "1 while the engine lives.", lambda one: one.engine.failure is None),
    (
        "flops_is_estimate", "1 where FLOPs are estimated, since the model's architecture is not among those that are counted.",
        lambda one: one.engine.card.has_estimated_flops,
    ),
    (
        "engine_peak_flops_per_second", "FLOPs a second of a large matrix product, as measured at the start.",
        lambda one: one.engine.card.peak_flops,
    ),
)  # fmt: skip


class PoolMetrics:
    """The gauges of all base models, which are read at each scrape.

    Args:
        registry: where they are registered.

    """

    def __init__(self, registry: Registry) -> None:
        self._pools: list[_Pool] = []
        self._registry = registry
        started = time.time()
        registry.gauge("start_time_seconds", "When the server began to serve, in seconds since 1970.", lambda: started)
        registry.gauge(
            "build_info", "Version, engine and model of this server; always 1.",
            lambda: [((VERSION, one.description, one.name), 1) for one in (pool.engine.card for pool in self._pools)],
            ["version", "engine", "model"],
        )  # fmt: skip
        for name, text, read in _GAUGES:
            self._of_models(name, text, read)
        for name, text, count in (
            ("replica_branches", "Branches that a replica generates for this server.", _branches),
            ("replica_failures", "Times that a replica failed since this server found it.", _failures),
        ):
            self._of_replicas(name, text, count)
        registry.gauge(
            "replica_state", "1 for the state that a replica of the engine is in.",
            lambda: [((model, one.name, one.state), 1) for model, one in self._replicas()], ["model", "replica", "state"],
        )  # fmt: skip

    def add(self, engine: Engine, admission: Admission) -> None:
        """Show a base model from now on."""
        self._pools.append(_Pool(engine, admission))

    def _of_models(self, name: str, text: str, read: Callable[[_Pool], float | None]) -> None:
        """Add a gauge with a value for each model of which there is one."""

        def samples() -> Samples:
            values = ((one.engine.card.name, read(one)) for one in self._pools)
            return [((model,), float(value)) for model, value in values if value is not None]

        self._registry.gauge(name, text, samples, ["model"])

    def _of_replicas(self, name: str, text: str, count: Callable[[ReplicaStatus], int]) -> None:
        self._registry.gauge(
            name, text, lambda: [((model, one.name), count(one)) for model, one in self._replicas()], ["model", "replica"]
        )

    def _replicas(self) -> list[tuple[str, ReplicaStatus]]:
        return [(one.engine.card.name, replica) for one in self._pools for replica in one.engine.replicas]


def _branches(replica: ReplicaStatus) -> int:
    return replica.branches


def _failures(replica: ReplicaStatus) -> int:
    return replica.failures
