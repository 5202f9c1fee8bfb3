"""Compares quantiles as Prometheus estimates them from the buckets of histograms with those of the values themselves."""

import asyncio
import math
import random
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import httpx

from app.telemetry.request_metrics import CANDIDATES, DEPTH, FIRST_TOKEN_SECONDS, FLOPS, NODES, SECONDS
from benchmarks import load, servers
from benchmarks.report import Table
from benchmarks.suite.families import FAMILIES
from benchmarks.suite.questions import examples

CONCURRENCY = 8
QUANTILES = (0.5, 0.95, 0.99)
MIX: tuple[Mapping[str, Any], ...] = (
    {"strategy": "direct"},
    {"strategy": "auto", "effort": "medium"},
    {"strategy": "auto", "effort": "high"},
    {"strategy": "self_consistency", "n": 8, "answer": "text"},
    {"strategy": "best_of_n", "n": 16, "verifier": "equations"},
    {"strategy": "beam_search", "n": 8, "verifier": "equations"},
    {"strategy": "mcts", "iterations": 8, "value": "agreement", "answer": "text"},
)
BOUNDS: Mapping[str, Sequence[float]] = {
    **{f"{phase}, s": SECONDS for phase in ("route", "render", "adapter", "queue", "search", "total")},
    "first token, s": FIRST_TOKEN_SECONDS,
    "FLOPs": FLOPS,
    "candidates": CANDIDATES,
    "nodes": NODES,
    "depth": DEPTH,
}


def run(*, is_quick: bool) -> Table:
    """Measure mixed traffic on the embedded model and its adapter, eight requests at a time."""
    observed = asyncio.run(_measure(len(MIX) * (2 if is_quick else 12)))
    table = Table("buckets", f"Quantiles by bucket and by value, of {len(observed['total, s'])} requests of seven kinds")
    for name, values in observed.items():
        row: dict[str, Any] = {"what": name, "requests": len(values)}
        for quantile in QUANTILES:
            true, estimate = _quantile(values, quantile), _estimate(values, BOUNDS[name], quantile)
            row[f"p{quantile:.0%}".replace("%", "")] = f"{true:.3g} ({estimate / true:.2f})" if true else "0"
        table.rows.append(row)
    return table


async def _measure(num_requests: int) -> dict[str, list[float]]:
    observed: dict[str, list[float]] = defaultdict(list)
    each = math.ceil(num_requests / len(FAMILIES))
    questions = [one.prompt for family in FAMILIES for one in examples(family, 1, "test", each)]
    random.Random(1).shuffle(questions)
    gate = asyncio.Semaphore(CONCURRENCY)
    with servers.ponder("--shipped-adapters", name="buckets") as server:
        await load.warm_up(server)
        async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:

            async def one(number: int) -> None:
                body = {
                    "model": ("reasoning", servers.MODEL)[number % 2], "ponder": MIX[number % len(MIX)], "stream": True,
                    "messages": [{"role": "user", "content": questions[number]}], "max_tokens": 256, "seed": number,
                }  # fmt: skip
                async with gate:
                    start = time.perf_counter()
                    reply = await client.post("/v1/chat/completions", json=body, headers={"X-Request-Id": f"bucket-{number}"})
                    observed["total, s"].append(time.perf_counter() - start)
                reply.raise_for_status()
                for name, value in _observations((await client.get(f"/v1/traces/bucket-{number}")).json()):
                    observed[name].append(value)

            await asyncio.gather(*(one(number) for number in range(min(num_requests, len(questions)))))
    return dict(observed)


def _observations(trace: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the observations of one request, each with the name of its histogram."""
    account = trace["ponder"]
    for phase, taken in account["seconds"].items():
        yield "first token, s" if phase == "first_token" else f"{phase}, s", taken
    yield "FLOPs", account["flops"]["total"]
    yield "candidates", account["branches"]["drawn"]
    yield "nodes", len(trace["nodes"])
    depths: dict[int, int] = {}
    for node in trace["nodes"]:  # sorted by id, so that a parent comes before its children
        depths[node["id"]] = 1 + depths.get(node["parent"], 0)
    yield "depth", max(depths.values(), default=0)


def _quantile(values: Sequence[float], quantile: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return sorted(values)[min(math.ceil(quantile * len(values)), len(values)) - 1]


def _estimate(values: Sequence[float], bounds: Sequence[float], quantile: float) -> float:
    """Estimate a quantile as PromQL's `histogram_quantile` does: linearly within a bucket, the last bound for values beyond it."""
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    rank = quantile * len(values)
    so_far = list(accumulate(counts))
    place = next(place for place, num in enumerate(so_far) if num >= rank)
    if place == len(bounds):
        return bounds[-1]
    low = bounds[place - 1] if place else 0.0
    before = so_far[place - 1] if place else 0
    return low + (bounds[place] - low) * (rank - before) / counts[place]
