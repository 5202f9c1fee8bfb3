"""What the service counts for Prometheus, with the prefix `ponder_`.

Labels are bounded: strategies and models are known at start, adapters are so many at most, everything else is an enumeration.
Reads meters, measures nothing.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from adapters.errors import AdapterError, NoSlot
from app.admission import Admission
from app.engine.base import Engine
from app.errors import Busy, Disconnected, EngineDead, PonderError, QuotaExceeded
from app.metering.meter import Meter
from app.search_traces import SearchTrace
from app.telemetry.adapter_metrics import OTHER, AdapterMetrics
from app.telemetry.drift import DriftMetrics, Seen
from app.telemetry.registry import Page
from app.telemetry.request_metrics import Labels, RequestSeries

REASONS = ("quota", "overload", "adapter_slots", "adapter")
"""Why requests are refused before they run."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Who chose a request's plan, and for what.

    Attributes:
        source: `caller`, `policy` (calibrated) or `prior`.
        bin: of the difficulty, "0" where nothing was measured.

    """

    source: str
    bin: str
    effort: str


class Metrics:
    """One server's, so that two apps can live in one process."""

    def __init__(self) -> None:
        self.page = Page()
        self._running: dict[Meter, Labels] = {}
        self._series = RequestSeries(self.page)
        self._rejections = self.page.counter("rejections_total", "Requests refused before they ran.", ["reason"])
        self._plans = self.page.counter(
            "plans_total", "Plans by the bin of the difficulty, the caller's effort, and who chose.",
            ["strategy", "model", "bin", "effort", "source"],
        )  # fmt: skip
        self._fallbacks = self.page.counter(
            "verifier_fallbacks_total", "Requests in which likelihood took the place of a verifier that did not answer.",
            ["strategy", "model"],
        )  # fmt: skip
        self.drift = DriftMetrics(self.page)
        self.adapters = AdapterMetrics(self.page, self.forget_adapter)
        self.page.gauge("requests_in_flight", "Requests admitted and not ended.", lambda: self.num_in_flight)
        for reason in REASONS:
            self._rejections.labels(reason)  # 0 is a value, too: rates begin with it

    def watch(self, admission: Admission) -> None:
        """Export the state of the admission gates, read at scrape time."""
        gauge = self.page.gauge
        gauge("branches_running", "Branches that hold a slot of the engine.", lambda: admission.num_running)
        gauge("branches_waiting", "Branches that wait for a slot.", lambda: admission.num_waiting)
        gauge("branch_slots", "Branches that the engine runs at the same time.", lambda: admission.num_slots)
        gauge("load_ratio", "Admitted branches as a share of the most that are admitted.", lambda: admission.load)

    def watch_engine(self, engine: Engine, version: str, strategies: Sequence[str]) -> None:
        """Export what the engine is. What may come of requests for its base model begins at zero."""
        card = engine.card
        self._series.begin(card.name, strategies)
        for strategy in strategies:
            self._fallbacks.labels(strategy, card.name)
        started = time.time()
        self.page.gauge("start_time_seconds", "When the server began to serve, in seconds since 1970.", lambda: started)
        self.page.gauge("engine_up", "1 while the engine lives.", lambda: engine.failure is None)
        self.page.gauge(
            "build_info", "What serves; always 1.", lambda: [((version, card.description, card.name), 1)],
            ["version", "engine", "model"],
        )  # fmt: skip
        if (peak := card.peak_flops) is not None:
            self.page.gauge(
                "engine_peak_flops_per_second", "FLOPs a second of a large matrix product, as measured at the start.",
                lambda: peak,
            )  # fmt: skip

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count requests that are turned away at the gate."""
        try:
            yield
        except Busy as error:
            self._rejections.labels("quota" if isinstance(error, QuotaExceeded) else "overload").inc()
            raise
        except AdapterError as error:
            self._rejections.labels("adapter_slots" if isinstance(error, NoSlot) else "adapter").inc()
            raise

    def request(self, labels: Labels, planned: Planned, meter: Meter, trace: SearchTrace) -> "_Counted":
        """Count, when the block ends, one request: everything on its meter and the tree that it grew, however it ends."""
        self._plans.labels(labels.strategy, labels.model, planned.bin, planned.effort, planned.source).inc()
        return _Counted(self, labels, meter, trace)

    def begin(self, labels: Labels, meter: Meter) -> Labels:
        """A request runs from now on; what it is counted by."""
        if labels.adapter:
            labels = labels._replace(adapter=self.adapters.label(labels.adapter))
        self._running[meter] = labels
        return labels

    def end(self, labels: Labels, meter: Meter, trace: SearchTrace, outcome: str) -> None:
        """It has ended."""
        del self._running[meter]
        if labels.adapter and labels.adapter != self.adapters.label(labels.adapter):  # it has gone in the meantime
            labels = labels._replace(adapter=OTHER)
        self._series.book(labels, meter, trace, outcome, time.monotonic() - meter.started)

    def forget_adapter(self, name: str) -> None:
        """Drop the series of a name that is no longer served."""
        self.page.forget("adapter", name)
        self._series.forget_adapter(name)

    def show(self, labels: Labels, seen: Seen) -> None:
        """What an answered request showed of its policy."""
        self.drift.book(labels.model, self.adapters.label(labels.adapter), seen)

    def fall_back(self, labels: Labels) -> None:
        """A verifier did not answer."""
        self._fallbacks.labels(labels.strategy, labels.model).inc()

    def judge(self, model: str, trace: SearchTrace, *, is_right: bool) -> None:
        """A caller's word on an answer."""
        adapter = self.adapters.label(trace.adapter)
        self.drift.judged(model, adapter, trace.bin, "feedback", is_right=is_right, foreseen=trace.difficulty)

    @property
    def num_in_flight(self) -> int:
        """Requests admitted and not ended."""
        return len(self._running)

    def flops(self) -> Counter[Labels]:
        """FLOPs done so far, by the labels of requests; those that run are in it with what they have spent."""
        done = Counter(self._series.flops())
        for meter, labels in self._running.items():
            done[labels] += meter.total_flops
        return done


class _Counted:
    """See `Metrics.request`; a class, since a generator costs as much as all that is counted."""

    __slots__ = ("_labels", "_meter", "_metrics", "_trace")

    def __init__(self, metrics: Metrics, labels: Labels, meter: Meter, trace: SearchTrace) -> None:
        self._metrics, self._labels, self._meter, self._trace = metrics, labels, meter, trace

    def __enter__(self) -> None:
        self._labels = self._metrics.begin(self._labels, self._meter)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._metrics.end(self._labels, self._meter, self._trace, "completed" if kind is None else _outcome(kind))


def _outcome(error: type[BaseException]) -> str:
    """How a request ended that was not answered."""
    if not issubclass(error, Exception) or issubclass(error, Disconnected):
        return "cancelled"
    if issubclass(error, EngineDead):
        return "engine_dead"
    return "refused" if issubclass(error, PonderError) else "failed"
