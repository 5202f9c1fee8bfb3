"""What the service counts for Prometheus, with the prefix `ponder_`: vLLM unregisters every collector named `vllm:*` at its start.

Labels are bounded: strategies and models are known at start, adapters are so many at most, everything else is an enumeration.
Reads meters, measures nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from adapters.errors import AdapterError, NoSlot
from app.admission import Admission
from app.errors import Busy, Disconnected, EngineDead, PonderError, QuotaExceeded
from app.metering.adapter_metrics import AdapterMetrics
from app.metering.drift import DriftMetrics, Seen
from app.metering.meter import Meter
from app.traces import Trace

REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128)
NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
DEPTH = (1, 2, 4, 8, 16, 32, 64)
FLOPS = tuple(10.0**exponent for exponent in range(9, 18))


class Labels(NamedTuple):
    """The labels that every per-request metric carries; the adapter is empty for the base model."""

    strategy: str
    model: str
    adapter: str = ""


class Metrics:
    """One registry's collectors, so that two apps can live in one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        common = ["strategy", "model", "adapter"]

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ponder_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"ponder_{name}", text, [*common, *labels], buckets=buckets, registry=registry)

        self.requests = counter("requests_total", "Requests by outcome.", *common, "outcome")
        self.rejections = counter("rejections_total", "Requests refused before they ran.", "reason")
        self.tokens = counter("tokens_total", "Tokens by kind: prefilled, cached, decoded, verified.", *common, "kind")
        self.flops = counter("flops_total", "FLOPs by phase: prefill, decode, verify.", *common, "kind")
        self.flops_saved = counter("flops_saved_total", "FLOPs that the prefix cache made unnecessary.", *common)
        self.branches = counter("branches_total", "Branches drawn, and those cancelled before their end.", *common, "state")
        self.exhausted = counter("budget_exhausted_total", "Requests that a budget ended.", *common, "budget")
        self.seconds = histogram("request_seconds", "Duration of requests by phase.", REQUEST_SECONDS, "phase")
        self.first_token = histogram("time_to_first_token_seconds", "Until the first token of an answer.", FIRST_TOKEN_SECONDS)
        self.candidates = histogram("candidates", "Candidates drawn per request.", CANDIDATES)
        self.request_flops = histogram("request_flops", "FLOPs spent per request.", FLOPS)
        self.nodes = histogram("tree_nodes", "Nodes of the search tree, per request.", NODES)
        self.depth = histogram("tree_depth", "Steps from the prompt to the deepest node, per request.", DEPTH)
        self.drift = DriftMetrics(registry)
        self.adapters = AdapterMetrics(registry, self.forget_adapter)
        self.in_flight = Gauge("ponder_requests_in_flight", "Requests admitted and not ended.", registry=registry)

    def watch(self, admission: Admission) -> None:
        """Export the state of the admission gates, read at scrape time."""
        for name, text, read in (
            ("ponder_branches_running", "Branches that hold a slot of the engine.", lambda: admission.num_running),
            ("ponder_branches_waiting", "Branches that wait for a slot.", lambda: admission.num_waiting),
        ):
            Gauge(name, text, registry=self._registry).set_function(read)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count requests that are turned away at the gate."""
        try:
            yield
        except Busy as error:
            self.rejections.labels("quota" if isinstance(error, QuotaExceeded) else "overload").inc()
            raise
        except AdapterError as error:
            self.rejections.labels("adapter_slots" if isinstance(error, NoSlot) else "adapter").inc()
            raise

    @contextmanager
    def request(self, labels: Labels, meter: Meter, trace: Trace) -> Iterator[None]:
        """Count one request, everything on its meter and the tree that it grew, however it ends."""
        self.in_flight.inc()
        outcome = "cancelled"
        try:
            yield
            outcome = "completed"
        except Disconnected:
            raise
        except EngineDead:
            outcome = "engine_dead"
            raise
        except PonderError:
            outcome = "refused"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self.in_flight.dec()
            self._book(labels, meter, outcome)
            self._book_tree(labels._replace(adapter=self.adapters.label(labels.adapter)), trace)

    def _book_tree(self, labels: Labels, trace: Trace) -> None:
        self.nodes.labels(*labels).observe(len(trace.nodes))
        self.depth.labels(*labels).observe(trace.depth)

    def _book(self, labels: Labels, meter: Meter, outcome: str) -> None:
        labels = labels._replace(adapter=self.adapters.label(labels.adapter))
        self.requests.labels(*labels, outcome).inc()
        for kind, tokens in meter.tokens.items():
            self.tokens.labels(*labels, kind).inc(tokens)
        for phase, flops in meter.flops.items():
            self.flops.labels(*labels, phase).inc(flops)
        self.flops_saved.labels(*labels).inc(meter.flops_saved)
        for state, branches in meter.branches.items():
            self.branches.labels(*labels, state).inc(branches)
        if meter.stopped is not None:
            self.exhausted.labels(*labels, meter.stopped.value.removeprefix("budget_")).inc()
        for phase, seconds in {**meter.seconds, "total": time.monotonic() - meter.started}.items():
            self.seconds.labels(*labels, phase).observe(seconds)
        if (first := meter.seconds.get("first_token")) is not None:
            self.first_token.labels(*labels).observe(first)
        self.candidates.labels(*labels).observe(meter.branches["drawn"])
        self.request_flops.labels(*labels).observe(meter.total_flops)

    def forget_adapter(self, name: str) -> None:
        """Drop the series of a name that is no longer served, so that a scrape does not grow with names that come and go."""
        for metric in (
            self.requests, self.tokens, self.flops, self.flops_saved, self.branches, self.exhausted,
            self.seconds, self.first_token, self.candidates, self.request_flops, self.nodes, self.depth,
        ):  # fmt: skip
            metric.remove_by_labels({"adapter": name})
        self.drift.forget_adapter(name)

    def show(self, labels: Labels, seen: Seen) -> None:
        """What an answered request showed of its policy."""
        self.drift.book(labels.model, self.adapters.label(labels.adapter), seen)

    def judge(self, model: str, adapter: str, number: int, *, is_right: bool) -> None:
        """A caller's word on an answer to a question of that bin."""
        self.drift.judged(model, self.adapters.label(adapter), number, "feedback", is_right=is_right)

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
