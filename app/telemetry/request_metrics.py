"""The metrics that every request is counted in.

A request touches about forty series. They are looked up once for each combination of labels and kept together, because looking
them up for each request would cost more than counting.
"""

import time
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.metering.meter import BRANCHES, FLOP_PHASES, TOKENS, Meter
from app.search_traces import SearchTrace
from app.telemetry.registry import Counter, Histogram, MetricFamily, Registry

# Upper ends of histogram buckets. They were chosen by `benchmarks.buckets`, which compares the quantiles that Prometheus works out
# of the buckets with the quantiles of the values themselves.
SECONDS = (
    *(step * 10.0**exponent for exponent in range(-4, 1) for step in (1, 2.5, 5)),
    7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600,
)  # fmt: skip
"""From 100 microseconds, which routing takes, to 600 seconds, the longest request. Finer where searches on processors lie."""

FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FLOPS = tuple(step * 10.0**exponent for exponent in range(9, 16) for step in (1, 2, 5))
CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DEPTH = (1, 2, 4, 6, 8, 12, 16, 24, 32)

# Values of labels.
OUTCOMES = ("completed", "cancelled", "refused", "failed", "engine_dead")
SAVED = ("cache", "early_stopping")
BUDGETS = ("tokens", "flops", "seconds")
TIMED_PHASES = ("route", "render", "adapter", "queue", "search", "first_token", "total")


class RequestLabels(NamedTuple):
    """The labels that a request is counted by. `adapter` is empty for the base model."""

    strategy: str
    model: str
    adapter: str = ""


class _RequestFamilies:
    """Counters have the labels strategy, model and adapter. Histograms lack the adapter: each has some twenty lines a combination."""

    def __init__(self, registry: Registry) -> None:
        def counter(name: str, text: str, *labels: str) -> MetricFamily[Counter]:
            return registry.counter(f"{name}_total", text, [*RequestLabels._fields, *labels])

        def histogram(name: str, text: str, bounds: Sequence[float], *labels: str) -> MetricFamily[Histogram]:
            return registry.histogram(name, text, bounds, ["strategy", "model", *labels])

        self.requests = counter("requests", "Requests by outcome.", "outcome")
        self.tokens = counter(
            "tokens",
            "Tokens by kind: prefilled, cached, decoded, drafted, recomputed, and again those verified and thinking.",
            "kind",
        )
        self.flops = counter(
            "flops", "FLOPs by phase: prefill, decode, verify, and recompute, for what failed replicas had computed.", "kind"
        )
        self.saved = counter(
            "flops_saved", "FLOPs that were not spent: found in the prefix cache, or left of a plan that stopped early (estimated).",
            "by",
        )  # fmt: skip
        self.best_of = counter(
            "flops_best_of_16", "FLOPs that a fixed best-of-16 would have spent on the same prompts (estimated)."
        )
        self.branches = counter(
            "branches",
            "Branches that were drawn, cancelled, moved to another replica, or whose thinking was cut, landed or extended.",
            "state",
        )
        self.exhausted = counter("budget_exhausted", "Requests that a budget ended.", "budget")
        self.seconds = histogram("request_seconds", "Duration of requests by phase.", SECONDS, "phase")
        self.first_token = histogram(
            "time_to_first_token_seconds", "Time to the first token of an answer.", FIRST_TOKEN_SECONDS
        )
        self.candidates = histogram("candidates", "Candidates drawn per request.", CANDIDATES)
        self.request_flops = histogram("request_flops", "FLOPs spent per request.", FLOPS)
        self.nodes = histogram("tree_nodes", "Nodes of the search tree, per request that grew one.", NODES)
        self.depth = histogram("tree_depth", "Steps from the prompt to the deepest node, per request that grew a tree.", DEPTH)
        self.adapter_seconds = registry.histogram(
            "adapter_request_seconds", "Duration of requests by the adapter that answers.", SECONDS, ["adapter"]
        )


class _RequestCounters:
    """The counters of one combination of labels. All of them appear on the page together, at zero."""

    def __init__(self, families: _RequestFamilies, labels: RequestLabels) -> None:
        def by_kind(family: MetricFamily[Counter], kinds: tuple[str, ...]) -> dict[str, Counter]:
            return {kind: family.labels(*labels, kind) for kind in kinds}

        self.requests = by_kind(families.requests, OUTCOMES)
        self.tokens = by_kind(families.tokens, TOKENS)
        self.flops = by_kind(families.flops, FLOP_PHASES)
        self.saved = by_kind(families.saved, SAVED)
        self.branches = by_kind(families.branches, BRANCHES)
        self.exhausted = by_kind(families.exhausted, BUDGETS)
        self.best_of = families.best_of.labels(*labels)

    def count(self, meter: Meter, outcome: str) -> None:
        self.requests[outcome].value += 1
        _add(self.saved, meter.saved)
        _add(self.branches, meter.branches)
        self.best_of.value += meter.best_of
        if meter.stopped is not None:
            self.exhausted[meter.stopped.value.removeprefix("budget_")].value += 1

    def spend(self, tokens: Tally[str], flops: Tally[str]) -> None:
        _add(self.tokens, tokens)
        _add(self.flops, flops)


def _add(counters: dict[str, Counter], amounts: Tally[str]) -> None:
    for kind, amount in amounts.items():
        counters[kind].value += amount


def shares_of(labels: RequestLabels, meter: Meter) -> Iterator[tuple[RequestLabels, Tally[str], Tally[str]]]:
    """Yield the tokens and the FLOPs of a request by the labels that they are counted by: those of other models under their names."""
    if not meter.guests:
        yield labels, meter.tokens, meter.flops
        return
    tokens, flops = meter.tokens.copy(), meter.flops.copy()
    for model, guest in meter.guests.items():
        tokens.subtract(guest.tokens)
        flops.subtract(guest.flops)
        yield RequestLabels(labels.strategy, model), guest.tokens, guest.flops
    yield labels, tokens, flops


class _RequestHistograms:
    """The histograms of one combination of labels. They appear with its first request, since empty histograms tell nothing."""

    def __init__(self, families: _RequestFamilies, labels: RequestLabels) -> None:
        by = labels.strategy, labels.model
        self._seconds = {phase: families.seconds.labels(*by, phase) for phase in TIMED_PHASES}
        self._first_token = families.first_token.labels(*by)
        self._candidates = families.candidates.labels(*by)
        self._flops = families.request_flops.labels(*by)
        self._nodes = families.nodes.labels(*by)
        self._depth = families.depth.labels(*by)
        self._by_adapter = families.adapter_seconds.labels(labels.adapter)

    def observe(self, meter: Meter, trace: SearchTrace, seconds: float) -> None:
        # Where the request has spans, dashboards link to those; else to the search trace that this server keeps.
        exemplar = trace.otel_trace_id or trace.id, time.time()
        for phase, duration in meter.seconds.items():
            self._seconds[phase].observe(duration)
        self._seconds["total"].observe(seconds, exemplar)
        self._by_adapter.observe(seconds, exemplar)
        if (first := meter.seconds.get("first_token")) is not None:
            self._first_token.observe(first, exemplar)
        self._candidates.observe(meter.branches["drawn"])
        self._flops.observe(meter.total_flops, exemplar)
        if (depth := trace.depth) > 1:
            self._nodes.observe(len(trace.nodes))
            self._depth.observe(depth)


class RequestMetrics:
    """Counts requests that have ended, in all metrics that have the labels of requests."""

    def __init__(self, registry: Registry) -> None:
        self._families = _RequestFamilies(registry)
        self._counters: dict[RequestLabels, _RequestCounters] = {}
        self._histograms: dict[RequestLabels, _RequestHistograms] = {}

    def start_at_zero(self, model: str, strategies: Sequence[str]) -> None:
        """Put the counters of the base `model` on the page: a rate needs a value before the first request."""
        for strategy in strategies:
            self._counters_of(RequestLabels(strategy, model))

    def _counters_of(self, labels: RequestLabels) -> _RequestCounters:
        if (found := self._counters.get(labels)) is None:
            found = self._counters[labels] = _RequestCounters(self._families, labels)
        return found

    def count(self, labels: RequestLabels, meter: Meter, trace: SearchTrace, outcome: str, seconds: float) -> None:
        """Count one request that ended with one of `OUTCOMES` after so many seconds."""
        self._counters_of(labels).count(meter, outcome)
        for by, tokens, flops in shares_of(labels, meter):
            self._counters_of(by).spend(tokens, flops)
        if (histograms := self._histograms.get(labels)) is None:
            histograms = self._histograms[labels] = _RequestHistograms(self._families, labels)
        histograms.observe(meter, trace, seconds)

    def forget_adapter(self, name: str) -> None:
        """Let go of the series of an adapter, which the registry has dropped."""
        self._counters = {labels: one for labels, one in self._counters.items() if labels.adapter != name}
        self._histograms = {labels: one for labels, one in self._histograms.items() if labels.adapter != name}

    def flops(self) -> dict[RequestLabels, int]:
        """Return the FLOPs of the requests that have ended."""
        return {labels: int(sum(one.value for one in counters.flops.values())) for labels, counters in self._counters.items()}
