"""What OpenTelemetry traces cost: processor time per branch of the orchestration, by the share of traced requests."""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from app.engine.scripted import SMALL
from app.metering.budget import Budget
from app.metering.meter import Meter
from app.request import InferenceRequest
from app.settings import Settings
from app.telemetry.otel import OtelTracer
from app.telemetry.span_attributes import request_span
from app.telemetry.spans import Tracer
from benchmarks.orchestration import drive
from benchmarks.report import Table

BRANCHES_PER_S = 5000
DEFAULT_RATIO: float = Settings.model_fields["trace_sample_ratio"].default
NUM_BRANCHES = 640
NUM_PASSED = 20_000
STRATEGIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("direct", {}),
    ("self_consistency", {"n": 16, "confidence": 1.0}),
)


class _Sink(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _serve(port: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    port.send(server.server_port)
    server.serve_forever()


@contextmanager
def collector() -> Iterator[str]:
    """Run a process that receives spans and drops them, so that its cost is not the server's; yield its URL."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def run(*, is_quick: bool) -> Table:
    """Measure processor time with that of the exporting thread, as the least of several rounds in turn."""
    with collector() as url:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(url, rounds=10 if is_quick else 100))


async def _measure(url: str, rounds: int) -> Table:
    table = Table("tracing", f"What traces cost on the scripted engine, and of a core at {BRANCHES_PER_S:,} branches a second")
    for strategy, parameters in STRATEGIES:
        off = traced = 1.0
        for _ in range(rounds):
            off = min(off, await _cost(strategy, parameters, Tracer()))
            traced = min(traced, await _cost(strategy, parameters, OtelTracer(url, 1.0, model="scripted", version="0")))
        passed = _passing(OtelTracer(url, 0.0, model="scripted", version="0"), parameters.get("n", 1))
        default = DEFAULT_RATIO * (traced - off) + (1 - DEFAULT_RATIO) * passed
        for name, extra in (("none", passed), (f"{DEFAULT_RATIO:.1%} (default)", default), ("all", traced - off)):
            table.rows.append(
                {
                    "strategy": strategy,
                    "requests traced": name,
                    "us/branch without": round(1e6 * off),
                    "us/branch more": round(1e6 * extra, 2),
                    "of a core": f"{100 * extra * BRANCHES_PER_S:.2f} %",
                    "of the throughput": f"{100 * extra / (off + extra):.2f} %",
                }
            )
    return table


async def _cost(strategy: str, parameters: dict[str, Any], tracer: Tracer) -> float:
    """Return the seconds per branch until its spans are sent. They are so few that none is dropped."""
    start = time.process_time()
    drawn, _ = await drive(strategy, parameters, NUM_BRANCHES, tracer)
    await tracer.close()
    return (time.process_time() - start) / drawn


def _passing(tracer: Tracer, num_branches: int) -> float:
    """Return the seconds per branch that an untraced request spends in the tracer. They are too short to measure with the rest."""
    request, meter = InferenceRequest(id="", bodies=(), is_chat=True, question="", num_chars=0), Meter(SMALL, Budget())
    start = time.process_time()
    for _ in range(NUM_PASSED):
        with (
            request_span(tracer, request, "scripted", meter) as span, span.child("difficulty") as difficulty,
            span.child("strategy") as strategy, strategy.child("wave") as wave,
        ):  # fmt: skip
            _ = *(span.is_recording,) * 3, difficulty.is_recording, *(strategy.is_recording,) * 2, *(wave.is_recording,) * 2
    return (time.process_time() - start) / NUM_PASSED / num_branches
