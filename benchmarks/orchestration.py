"""The cost of orchestration alone: requests run through the service on the scripted engine, in one process on one core."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import uvloop

from app.admission import Admission
from app.engine.base import Engine
from app.engine.scripted import ScriptedEngine, cycle
from app.metering.budget import Budget
from app.request import Caller, InferenceRequest, Limits
from app.routing.planner import Planner
from app.routing.policies import Policies
from app.search_traces import SearchTraces
from app.serving.accounting import Observers
from app.serving.feedback import Feedback
from app.serving.planning import Planning
from app.serving.service import Service
from app.telemetry.metrics import Metrics
from app.telemetry.spans import Tracer
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext

REPLIES = ["It is 42.", "So 41.", "42", "The answer is 42.", "I say 40."]


def run(*, is_quick: bool) -> Table:
    """Measure branches per second, from plan to account, without HTTP."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # `ponder serve` has this loop too
        return runner.run(_measure(2000 if is_quick else 20_000))


async def _measure(num_branches: int) -> Table:
    table = Table("orchestration", "Orchestration alone, on the scripted engine, one core")
    for strategy, parameters in (
        ("direct", {}),
        ("best_of_n", {"n": 16}),
        ("self_consistency", {"n": 16, "confidence": 1.0}),
    ):
        drawn, elapsed = await drive(strategy, parameters, num_branches)
        table.rows.append(
            {
                "strategy": strategy,
                "branches": drawn,
                "branches/s": round(drawn / elapsed),
                "us/branch": round(1e6 * elapsed / drawn),
            }
        )
    return table


async def drive(  # noqa: PLR0917 - each is a part of the service that a benchmark varies
    strategy: str,
    parameters: dict[str, Any],
    num_branches: int,
    tracer: Tracer | None = None,
    metrics: Metrics | None = None,
    engine: Engine | None = None,
) -> tuple[int, float]:
    """Return the number of branches that eight clients drew, and the seconds that they took. `engine` has started; by default scripted."""
    engine = engine or ScriptedEngine(cycle(REPLIES))
    equivalence = Equivalence()
    metrics = metrics or Metrics()
    service = Service(
        engine,
        planning=Planning(
            Planner(Policies(Path("/nowhere")), engine.card, "scripted", None),
            StrategyContext(equivalence, 1000),
            Limits(64, 100_000, Budget(100_000, None, 600)),
        ),
        admission=Admission(num_slots=64, max_branches=10_000, max_branches_per_key=10_000),
        observers=Observers(metrics, SearchTraces(256, 32_000_000), Feedback(None, metrics), tracer or Tracer()),
    )
    drawn = 0

    async def client(number: int) -> None:
        nonlocal drawn
        for _ in range(max(num_branches // (8 * parameters.get("n", 1)), 1)):
            body = {"messages": [{"role": "user", "content": "What is 17 + 25?"}]}
            request = InferenceRequest(
                id=str(number), bodies=(body,), is_chat=True, question="What is 17 + 25?", num_chars=16,
                strategy=strategy, parameters=parameters,
            )  # fmt: skip
            async with service.open(request, Caller(str(number))) as session:
                await session.run(lambda _number, _event: None)
                drawn += session.meter.branches["drawn"]

    start = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(8)))
    elapsed = time.perf_counter() - start
    equivalence.close()
    return drawn, elapsed
