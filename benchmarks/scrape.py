"""The duration of a scrape after a hundred thousand requests with all strategies and two hundred adapters."""

import random
import time

from app.engine.architecture import Architecture
from app.metering.budget import Budget
from app.metering.meter import Meter
from app.search_traces import SearchTrace
from app.telemetry.metrics import Metrics, PlanLabels
from app.telemetry.quality_metrics import AnswerQuality
from app.telemetry.request_metrics import RequestLabels
from benchmarks.report import Table
from strategies.registry import STRATEGIES

NUM_REQUESTS = 100_000
NUM_ADAPTERS = 200
MODEL = Architecture.dense(
    num_layers=30, hidden_size=576, num_heads=9, num_kv_heads=3, head_dim=64, intermediate_size=1536, vocab_size=49_152
)  # fmt: skip


def run(*, is_quick: bool) -> Table:
    """Measure several scrapes, and the time that counting a request takes."""
    num_requests = NUM_REQUESTS // (10 if is_quick else 1)
    metrics = Metrics()
    names = [f"adapter-of-some-customer-{number}" for number in range(NUM_ADAPTERS)]
    for name in names:
        metrics.adapters.served(name)
        metrics.adapters.loaded(name, 0.3)
    draw = random.Random(1)
    strategies = list(STRATEGIES.names())
    start = time.perf_counter()
    for number in range(num_requests):
        book(metrics, RequestLabels(draw.choice(strategies), "smollm2-135m", draw.choice(names)), number, draw)
    booked = (time.perf_counter() - start) / num_requests
    table = Table("scrape", f"A scrape after {num_requests:,} requests with {NUM_ADAPTERS} adapter names")
    for kind, is_openmetrics in (("text", False), ("OpenMetrics", True)):
        taken = []
        for _ in range(10):
            start = time.perf_counter()
            page = metrics.registry.render(is_openmetrics=is_openmetrics)
            taken.append(time.perf_counter() - start)
        table.rows.append(
            {
                "format": kind,
                "lines": page.count(b"\n"),
                "MB": round(len(page) / 1e6, 1),
                "ms, median": round(1000 * sorted(taken)[5], 1),
                "ms, longest": round(1000 * max(taken), 1),
                "us to book a request": round(1e6 * booked, 1),
            }
        )
    return table


def book(metrics: Metrics, labels: RequestLabels, number: int, draw: random.Random) -> None:
    """Count a request that has a value for every metric of requests."""
    meter = Meter(MODEL, Budget())
    for phase in ("route", "render", "adapter", "queue", "search", "first_token"):
        meter.seconds[phase] = draw.random()
    for kind in ("prefilled", "cached", "decoded", "verified"):
        meter.tokens[kind] = 1000
    for kind in ("prefill", "decode", "verify"):
        meter.flops[kind] = 10**10
    meter.branches["drawn"] = 8
    bin_number = draw.randrange(6)
    with metrics.request(
        labels, PlanLabels("policy", str(bin_number), "medium"), meter, SearchTrace(str(number), "m", labels.strategy)
    ):
        metrics.observe_quality(
            labels, AnswerQuality(difficulty_before=0.4, difficulty_after=0.3, bin=bin_number, agreement=0.5, is_right=True)
        )
