"""The series that every request is booked in. Those of one combination of labels are looked up once and kept together."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from app.metering.meter import Meter
from app.search_traces import SearchTrace
from app.telemetry.registry import Count, Family, Page, Spread

SECONDS = (
    *(step * 10.0**exponent for exponent in range(-4, 1) for step in (1, 2.5, 5)),
    7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600,
)  # fmt: skip
"""100 microseconds, which routing takes, to the 600 seconds that a request may take; finer where searches on processors lie.

What follows was chosen as this was: `benchmarks.buckets` holds quantiles by bucket against those of the values.
"""

FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FLOPS = tuple(step * 10.0**exponent for exponent in range(9, 16) for step in (1, 2, 5))
CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DEPTH = (1, 2, 4, 6, 8, 12, 16, 24, 32)

OUTCOMES = ("completed", "cancelled", "refused", "failed", "engine_dead")
TOKENS = ("prefilled", "cached", "decoded", "verified")
PHASES = ("prefill", "decode", "verify")
SAVED = ("cache", "early_stopping")
BRANCHES = ("drawn", "cancelled")
BUDGETS = ("tokens", "flops", "seconds")
TIMED = ("route", "render", "adapter", "queue", "search", "first_token", "total")


class Labels(NamedTuple):
    """What a request is counted by; the adapter is empty for the base model."""

    strategy: str
    model: str
    adapter: str = ""


class _Families:
    """Counters by strategy, model and adapter; histograms by strategy and model, since buckets times adapters are too many lines."""

    def __init__(self, page: Page) -> None:
        def counter(name: str, text: str, *labels: str) -> Family[Count]:
            return page.counter(f"{name}_total", text, [*Labels._fields, *labels])

        def histogram(name: str, text: str, bounds: Sequence[float], *labels: str) -> Family[Spread]:
            return page.histogram(name, text, bounds, ["strategy", "model", *labels])

        self.requests = counter("requests", "Requests by outcome.", "outcome")
        self.tokens = counter("tokens", "Tokens by kind: prefilled, cached, decoded, verified.", "kind")
        self.flops = counter("flops", "FLOPs by phase: prefill, decode, verify.", "kind")
        self.saved = counter(
            "flops_saved", "FLOPs that were not needed: found in the prefix cache, or left of a plan that stopped early (estimated).",
            "by",
        )  # fmt: skip
        self.best_of = counter(
            "flops_best_of_16", "FLOPs that a fixed best-of-16 would have taken for the same answers (estimated)."
        )
        self.branches = counter("branches", "Branches drawn, and those cancelled before their end.", "state")
        self.exhausted = counter("budget_exhausted", "Requests that a budget ended.", "budget")
        self.seconds = histogram("request_seconds", "Duration of requests by phase.", SECONDS, "phase")
        self.first_token = histogram("time_to_first_token_seconds", "Until the first token of an answer.", FIRST_TOKEN_SECONDS)
        self.candidates = histogram("candidates", "Candidates drawn per request.", CANDIDATES)
        self.request_flops = histogram("request_flops", "FLOPs spent per request.", FLOPS)
        self.nodes = histogram("tree_nodes", "Nodes of the search tree, per request that grew one.", NODES)
        self.depth = histogram("tree_depth", "Steps from the prompt to the deepest node, per request that grew a tree.", DEPTH)
        self.adapter_seconds = page.histogram(
            "adapter_request_seconds", "Duration of requests by the adapter that answers.", SECONDS, ["adapter"]
        )


class _Account:
    """The counters of one combination of labels, which begin at zero together."""

    def __init__(self, families: _Families, labels: Labels) -> None:
        def each(family: Family[Count], kinds: tuple[str, ...]) -> dict[str, Count]:
            return {kind: family.labels(*labels, kind) for kind in kinds}

        self.requests = each(families.requests, OUTCOMES)
        self.tokens = each(families.tokens, TOKENS)
        self.flops = each(families.flops, PHASES)
        self.saved = each(families.saved, SAVED)
        self.branches = each(families.branches, BRANCHES)
        self.exhausted = each(families.exhausted, BUDGETS)
        self.best_of = families.best_of.labels(*labels)

    def book(self, meter: Meter, outcome: str) -> None:
        self.requests[outcome].value += 1
        for mine, theirs in (
            (self.tokens, meter.tokens), (self.flops, meter.flops), (self.saved, meter.saved), (self.branches, meter.branches)
        ):  # fmt: skip
            for kind, amount in theirs.items():
                mine[kind].value += amount
        self.best_of.value += meter.best_of
        if meter.stopped is not None:
            self.exhausted[meter.stopped.value.removeprefix("budget_")].value += 1


class _Spreads:
    """The histograms of one combination of labels; made with its first request, as empty ones say nothing."""

    def __init__(self, families: _Families, labels: Labels) -> None:
        by = labels.strategy, labels.model
        self._seconds = {phase: families.seconds.labels(*by, phase) for phase in TIMED}
        self._first_token = families.first_token.labels(*by)
        self._candidates = families.candidates.labels(*by)
        self._flops = families.request_flops.labels(*by)
        self._nodes = families.nodes.labels(*by)
        self._depth = families.depth.labels(*by)
        self._by_adapter = families.adapter_seconds.labels(labels.adapter)

    def book(self, meter: Meter, trace: SearchTrace, seconds: float) -> None:
        told = trace.otel_trace_id or trace.id, time.time()
        for phase, taken in meter.seconds.items():
            self._seconds[phase].observe(taken)
        self._seconds["total"].observe(seconds, told)
        self._by_adapter.observe(seconds, told)
        if (first := meter.seconds.get("first_token")) is not None:
            self._first_token.observe(first, told)
        self._candidates.observe(meter.branches["drawn"])
        self._flops.observe(meter.total_flops, told)
        if (depth := trace.depth) > 1:
            self._nodes.observe(len(trace.nodes))
            self._depth.observe(depth)


class RequestSeries:
    """All of them."""

    def __init__(self, page: Page) -> None:
        self._families = _Families(page)
        self._accounts: dict[Labels, _Account] = {}
        self._spreads: dict[Labels, _Spreads] = {}

    def begin(self, model: str, strategies: Sequence[str]) -> None:
        """Let the counters of the base model's requests begin at zero: a rate needs a value before the first request."""
        for strategy in strategies:
            self._account(Labels(strategy, model))

    def _account(self, labels: Labels) -> _Account:
        if (found := self._accounts.get(labels)) is None:
            found = self._accounts[labels] = _Account(self._families, labels)
        return found

    def book(self, labels: Labels, meter: Meter, trace: SearchTrace, outcome: str, seconds: float) -> None:
        """One request that has ended, after so many seconds."""
        self._account(labels).book(meter, outcome)
        if (spreads := self._spreads.get(labels)) is None:
            spreads = self._spreads[labels] = _Spreads(self._families, labels)
        spreads.book(meter, trace, seconds)

    def forget_adapter(self, name: str) -> None:
        """Its series have left the page."""
        self._accounts = {labels: one for labels, one in self._accounts.items() if labels.adapter != name}
        self._spreads = {labels: one for labels, one in self._spreads.items() if labels.adapter != name}

    def flops(self) -> dict[Labels, int]:
        """FLOPs of requests that have ended."""
        return {labels: int(sum(one.value for one in account.flops.values())) for labels, account in self._accounts.items()}
