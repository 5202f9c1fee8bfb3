"""What metrics and traces cost together, at thousands of simulated branches per second."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import uvloop

from app.telemetry.metrics import Metrics
from app.telemetry.otel import OtelTracer
from benchmarks.orchestration import drive
from benchmarks.report import Table
from benchmarks.tracing import BRANCHES_PER_S, DEFAULT_RATIO, collector

NUM_BRANCHES = 3200

STRATEGIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("direct", {}),
    ("self_consistency", {"n": 4, "confidence": 1.0}),
    ("self_consistency", {"n": 16, "confidence": 1.0}),
)


def run(*, is_quick: bool) -> Table:
    """Measure processor time, as the least of several rounds in turn."""
    table = Table("watching", f"What it costs to watch, at {BRANCHES_PER_S:,} simulated branches a second")
    with collector() as url:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for strategy, parameters in STRATEGIES:
                cost = runner.run(_costs(url, strategy, parameters, rounds=5 if is_quick else 40))
                table.rows.append({"strategy": f"{strategy}, n={parameters.get('n', 1)}", **cost})
    return table


async def _costs(url: str, strategy: str, parameters: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Return the microseconds per branch without metrics, with metrics, and with metrics and traces."""
    least = [1.0, 1.0, 1.0]
    for _ in range(rounds):
        for place, (metrics, is_traced) in enumerate(((Unwatched(), False), (Metrics(), False), (Metrics(), True))):
            tracer = OtelTracer(url, DEFAULT_RATIO, model="scripted", version="0") if is_traced else None
            start = time.process_time()
            drawn, _ = await drive(strategy, parameters, NUM_BRANCHES, tracer, metrics)
            if tracer is not None:
                await tracer.close()
            least[place] = min(least[place], (time.process_time() - start) / drawn)
    bare, counted, watched = least
    return {
        "us/branch unwatched": round(1e6 * bare, 1),
        "with metrics": round(1e6 * counted, 1),
        f"and {DEFAULT_RATIO:.1%} traced": round(1e6 * watched, 1),
        "of a core": f"{100 * (watched - bare) * BRANCHES_PER_S:.1f} %",
        "of the throughput": f"{100 * (1 - bare / watched):.1f} %",
    }


class Unwatched(Metrics):
    """Counts nothing, as a service without metrics would."""

    def request(self, *_arguments: object) -> Any:
        """See `Metrics`."""
        return nullcontext()

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """See `Metrics`."""
        yield

    def observe_quality(self, *_arguments: object) -> None:
        """See `Metrics`."""
