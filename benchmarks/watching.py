"""What it costs to watch: metrics and traces at thousands of simulated branches a second, and a scrape of a long page."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from app.metering.drift import Seen
from app.metering.flops import Architecture
from app.metering.meter import Budget, Meter
from app.metering.metrics import Metrics, Planned
from app.metering.request_series import Labels
from app.traces import Trace
from benchmarks.report import Table
from strategies.registry import STRATEGIES

NUM_REQUESTS = 100_000
NUM_ADAPTERS = 200
MODEL = Architecture(
    num_layers=30, hidden_size=576, num_heads=9, num_kv_heads=3, head_dim=64, intermediate_size=1536, vocab_size=49_152
)  # fmt: skip


def scrape(num_requests: int = NUM_REQUESTS) -> dict[str, Any]:
    """Seconds of a scrape after so many requests by every strategy and two hundred adapters, and of booking one request."""
    metrics = Metrics()
    names = [f"adapter-of-some-customer-{number}" for number in range(NUM_ADAPTERS)]
    for name in names:
        metrics.adapters.served(name)
        metrics.adapters.loaded(name, 0.3)
    draw = random.Random(1)
    strategies = list(STRATEGIES.names())
    start = time.perf_counter()
    for number in range(num_requests):
        labels = Labels(draw.choice(strategies), "smollm2-135m", draw.choice(names))
        book(metrics, labels, number, draw)
    booked = time.perf_counter() - start
    pages = {}
    for kind, is_open in (("text", False), ("OpenMetrics", True)):
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            page = metrics.page.render(is_open=is_open)
            taken.append(time.perf_counter() - start)
        pages[f"{kind}, ms"] = round(1000 * max(taken), 1)
    return {"us/request": round(1e6 * booked / num_requests), "lines": page.count(b"\n"), "MB": round(len(page) / 1e6, 1), **pages}


def book(metrics: Metrics, labels: Labels, number: int, draw: random.Random) -> None:
    """A request that touches everything that a request can touch."""
    meter = Meter(MODEL, Budget())
    for phase in ("route", "render", "adapter", "queue", "search", "first_token"):
        meter.seconds[phase] = draw.random()
    for kind in ("prefilled", "cached", "decoded", "verified"):
        meter.tokens[kind] = 1000
    for kind in ("prefill", "decode", "verify"):
        meter.flops[kind] = 10**10
    meter.branches["drawn"] = 8
    bin_number = draw.randrange(6)
    with metrics.request(labels, Planned("policy", bin_number, "medium"), meter, Trace(str(number), "m", labels.strategy)):
        metrics.show(labels, Seen(before=0.4, after=0.3, bin=bin_number, agreement=0.5, is_right=True))


class Unwatched(Metrics):
    """Counts nothing: what the service would be without metrics."""

    @contextmanager
    def request(self, *_arguments: object) -> Iterator[None]:
        """See `Metrics`."""
        yield

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """See `Metrics`."""
        yield

    def show(self, *_arguments: object) -> None:
        """See `Metrics`."""
