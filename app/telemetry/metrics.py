"""What the service counts for Prometheus. Every metric has the prefix `ponder_`.

The number of series is bounded: strategies and the model are known at the start, at most a hundred adapters are named, and every
other label is an enumeration. Costs are read from the meters of requests; nothing is measured here.
"""

import time
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from adapters.errors import AdapterError, NoSlot
from app.admission import Admission
from app.engine.base import Engine
from app.errors import Busy, Disconnected, EngineDead, PonderError, QuotaExceeded
from app.metering.meter import Meter
from app.search_traces import SearchTrace
from app.shared.alone import NotShared
from app.telemetry.adapter_metrics import OTHER, AdapterMetrics
from app.telemetry.learning_metrics import LearningMetrics
from app.telemetry.live_metrics import LiveMetrics
from app.telemetry.pool_metrics import PoolMetrics
from app.telemetry.quality_metrics import AnswerQuality, QualityMetrics
from app.telemetry.registry import Registry
from app.telemetry.request_metrics import RequestLabels, RequestMetrics, shares_of

REASONS = ("quota", "overload", "adapter_slots", "adapter")
"""Why requests are refused before they run."""


class PlanLabels(NamedTuple):
    """The labels of a request's plan.

    Attributes:
        source: who chose the plan: `caller`, `policy` (calibrated) or `prior` (the general estimator).
        bin: of the difficulty, "1" to "5"; "0" where the difficulty was not estimated.
        effort: of the request, `low`, `medium` or `high`.

    """

    source: str
    bin: str
    effort: str


class Metrics:
    """The metrics of one server. Two apps in one process have one each."""

    def __init__(self) -> None:
        self.registry = Registry()
        self._running: dict[Meter, RequestLabels] = {}
        self._requests = RequestMetrics(self.registry)
        self._rejections = self.registry.counter("rejections_total", "Requests refused before they ran.", ["reason"])
        self._plans = self.registry.counter(
            "plans_total", "Plans by the bin of the difficulty, the caller's effort, and who chose the plan.",
            ["strategy", "model", "bin", "effort", "source"],
        )  # fmt: skip
        self._fallbacks = self.registry.counter(
            "verifier_fallbacks_total", "Requests in which likelihood took the place of a verifier that did not answer.",
            ["strategy", "model"],
        )  # fmt: skip
        self._auto_answers = self.registry.counter(
            "auto_answers_total",
            "Answers to requests for the model `auto`, by the model and adapter that gave them, and whether that one was asked `first` "
            "or `later`.",
            ["model", "adapter", "asked"],
        )  # fmt: skip
        self._quality = QualityMetrics(self.registry)
        self.adapters = AdapterMetrics(self.registry, self.forget_adapter)
        self.learning = LearningMetrics(self.registry, self.adapters.label)
        self.live = LiveMetrics(self.registry, self.adapters.label)
        self.pools = PoolMetrics(self.registry)
        self.registry.gauge("requests_in_flight", "Requests admitted and not ended.", lambda: self.num_in_flight)
        for reason in REASONS:
            self._rejections.labels(reason)  # appears at 0: a rate needs a value before the first rejection

    def export_pool(self, engine: Engine, admission: Admission, strategies: Sequence[str]) -> None:
        """Show the state of a base model's engine and admission from now on.

        The counters of the model appear on the page at zero, for each of these `strategies`.
        """
        self.pools.add(engine, admission)
        self._requests.start_at_zero(engine.card.name, strategies)
        self.live.start_at_zero(engine.card.name)
        for strategy in strategies:
            self._fallbacks.labels(strategy, engine.card.name)

    def export_shared_state(self, shared: NotShared) -> None:
        """Add a gauge of the state that front ends share. The page of a single front end has it too, without a value."""
        self.registry.gauge(
            "shared_state_up", "1 while the store that several front ends share can be reached.",
            lambda: [] if shared.is_up is None else float(shared.is_up),
        )  # fmt: skip

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count the request as rejected when the block raises an error of the admission or of its adapter."""
        try:
            yield
        except Busy as error:
            self._rejections.labels("quota" if isinstance(error, QuotaExceeded) else "overload").inc()
            raise
        except AdapterError as error:
            self._rejections.labels("adapter_slots" if isinstance(error, NoSlot) else "adapter").inc()
            raise

    def request(self, labels: RequestLabels, plan: PlanLabels, meter: Meter, trace: SearchTrace) -> "_CountedRequest":
        """Return a context manager for the run of one request.

        When its block ends, in whatever way, everything on the meter and the size of the search tree are counted.
        """
        self._plans.labels(labels.strategy, labels.model, plan.bin, plan.effort, plan.source).inc()
        return _CountedRequest(self, labels, meter, trace)

    def begin(self, labels: RequestLabels, meter: Meter) -> RequestLabels:
        """Note that a request runs from now on, and return the labels that it is counted by."""
        if labels.adapter:
            labels = labels._replace(adapter=self.adapters.label(labels.adapter))
        self._running[meter] = labels
        return labels

    def end(self, labels: RequestLabels, meter: Meter, trace: SearchTrace, outcome: str) -> None:
        """Count a request that `begin` was called for and that has ended."""
        del self._running[meter]
        # The series of an adapter that was removed while the request ran are gone, and must not come back.
        if labels.adapter and labels.adapter != self.adapters.label(labels.adapter):
            labels = labels._replace(adapter=OTHER)
        self._requests.count(labels, meter, trace, outcome, time.monotonic() - meter.started)

    def forget_adapter(self, name: str) -> None:
        """Drop the series of an adapter that is no longer served."""
        self.registry.forget("adapter", name)
        self._requests.forget_adapter(name)

    def observe_quality(self, labels: RequestLabels, quality: AnswerQuality) -> None:
        """Count what an answered request tells about how well its policy fits."""
        self._quality.observe(labels.model, self.adapters.label(labels.adapter), quality)

    def count_fallback(self, labels: RequestLabels) -> None:
        """Count a request in which a verifier did not answer."""
        self._fallbacks.labels(labels.strategy, labels.model).inc()

    def count_auto_answer(self, labels: RequestLabels, *, is_first: bool) -> None:
        """Count who answered a request that left that to the server. `is_first`: it was the first one that was asked."""
        self._auto_answers.labels(labels.model, self.adapters.label(labels.adapter), "first" if is_first else "later").inc()

    def count_feedback(self, trace: SearchTrace, *, is_right: bool) -> None:
        """Count what a caller says of an answer."""
        adapter = self.adapters.label(trace.adapter)
        self._quality.count_outcome(trace.base, adapter, trace.bin, "feedback", is_right=is_right, difficulty=trace.difficulty)

    @property
    def num_in_flight(self) -> int:
        """The number of requests that are admitted and have not ended."""
        return len(self._running)

    def flops(self) -> Tally[RequestLabels]:
        """Return the FLOPs spent so far by the labels of requests, those of running requests and of live calibration included."""
        spent = Tally(self._requests.flops())
        spent.update(self.live.flops())
        for meter, labels in self._running.items():
            for by, _, flops in shares_of(labels, meter):
                spent[by] += flops.total()
        return spent


class _CountedRequest:
    """See `Metrics.request`. It is a class, since a generator-based context manager costs as much as all the counting."""

    __slots__ = ("_labels", "_meter", "_metrics", "_trace")

    def __init__(self, metrics: Metrics, labels: RequestLabels, meter: Meter, trace: SearchTrace) -> None:
        self._metrics, self._labels, self._meter, self._trace = metrics, labels, meter, trace

    def __enter__(self) -> None:
        self._labels = self._metrics.begin(self._labels, self._meter)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._metrics.end(self._labels, self._meter, self._trace, "completed" if kind is None else _outcome(kind))


def _outcome(error: type[BaseException]) -> str:
    """Return the outcome of a request that ended with this error."""
    if not issubclass(error, Exception) or issubclass(error, Disconnected):
        return "cancelled"
    if issubclass(error, EngineDead):
        return "engine_dead"
    return "refused" if issubclass(error, PonderError) else "failed"
