"""The accounting stage: what is recorded of a request, from its admission to its end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.engine.architecture import Architecture
from app.metering.comparisons import compare
from app.metering.meter import Meter
from app.request import Caller, InferenceRequest, Outcome
from app.routing.planner import AUTO
from app.routing.throughput import ThroughputEstimator
from app.search_traces import SearchTrace, SearchTraces
from app.serving.feedback import Feedback
from app.serving.live_calibration import LiveCalibration
from app.serving.planning import PlannedRequest
from app.telemetry.metrics import Metrics, PlanLabels
from app.telemetry.quality_metrics import AnswerQuality
from app.telemetry.request_metrics import RequestLabels
from app.telemetry.span_attributes import of_outcome
from app.telemetry.spans import Span, Tracer
from strategies.core.values import BUDGETS, StopReason, Task
from strategies.core.verifier import VerifierChoice


@dataclass(frozen=True, slots=True)
class Observers:
    """What observes the requests of one server.

    Attributes:
        metrics: counts them for Prometheus.
        traces: keeps the nodes of the last ones.
        feedback: keeps questions whose answers callers confirm.
        tracer: makes spans for OpenTelemetry.
        throughput: estimates from past requests how long later requests take.
        live: calibrates from their questions; None where the operator has not switched it on.

    """

    metrics: Metrics
    traces: SearchTraces
    feedback: Feedback
    tracer: Tracer = field(default_factory=Tracer)
    throughput: ThroughputEstimator = field(default_factory=ThroughputEstimator)
    live: LiveCalibration | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """The records of one admitted request.

    Attributes:
        labels: the labels of the request's metrics.
        trace: the search trace, to which nodes are added while they are generated.
        span: the request's span, which is the parent of the spans of its branches.

    """

    observers: Observers
    request: InferenceRequest
    planned: PlannedRequest
    labels: RequestLabels
    meter: Meter
    trace: SearchTrace
    span: Span

    def close(self, outcome: Outcome, tasks: Sequence[Task], width: int, architecture: Architecture) -> None:
        """Record an answered request. `width` branches ran at once, on the model of `architecture`."""
        self._observe_throughput(outcome, width)
        # With a stopping rule the number of samples is open, so there is no forecast that the request could stay below.
        forecast = None if self.planned.plan.rule else self.planned.strategy.forecast
        compare(self.meter, architecture, tasks, outcome.results, forecast)
        if self.span.is_recording:
            self.span.set(of_outcome(outcome))
        is_right = self._observe_quality(outcome)
        self._learn(outcome, is_right=is_right)
        # A request with several prompts gets feedback on its first answer only.
        chosen = outcome.results[0].chosen[0]
        self.observers.feedback.remember(self.trace, self.request, self.planned.kind, chosen, tasks[0].read(chosen.candidate))

    def _observe_throughput(self, outcome: Outcome, width: int) -> None:
        candidates = [scored.candidate for result in outcome.results for scored in result.candidates]
        lengths = [len(candidate.token_ids) for candidate in candidates if candidate.is_complete]
        self.observers.throughput.observe(width, self.meter.generated_tokens, self.meter.seconds["search"], lengths)

    def _learn(self, outcome: Outcome, *, is_right: bool | None) -> None:
        """Learn from the answers, from an exact verifier, and later from feedback.

        Several prompts have one estimate, so they teach nothing.
        """
        difficulty = self.planned.plan.difficulty
        if difficulty is None or (lesson := difficulty.lesson) is None or len(outcome.results) > 1:
            return
        [result] = outcome.results
        chosen = result.chosen[0]
        first = min(result.candidates, key=lambda one: one.candidate.index, default=chosen)
        is_same_answer = chosen.answer is not None and first.answer == chosen.answer
        lesson.close(gives_first=is_same_answer or first.candidate.index == chosen.candidate.index)
        if is_right is not None:
            lesson.judge(is_right=is_right)
        self.trace.on_feedback = lambda right: lesson.judge(is_right=right)

    def _observe_quality(self, outcome: Outcome) -> bool | None:
        """Record how well the policy's difficulty fitted, and whether a verifier failed. Of several prompts, the first counts.

        Return whether an exact verifier accepted the answer, None where none was used.
        """
        plan, result = self.planned.plan, outcome.results[0]
        verifier = getattr(self.planned.strategy.params, "verifier", None)
        is_exact = isinstance(verifier, VerifierChoice) and verifier.is_exact
        has_proof = is_exact and result.stop_reason not in BUDGETS
        quality = AnswerQuality(
            difficulty_before=plan.difficulty_before,
            difficulty_after=None if plan.rule is None else plan.rule.difficulty_after_wave,
            bin=plan.bin,
            agreement=result.agreement,
            is_right=result.stop_reason is StopReason.VERIFIED if has_proof else None,
        )
        self.observers.metrics.observe_quality(self.labels, quality)
        if any(result.notes for result in outcome.results):  # strategies note a verifier's failure, and nothing else
            self.observers.metrics.count_fallback(self.labels)
        return quality.is_right


@contextmanager
def open_account(
    observers: Observers,
    request: InferenceRequest,
    planned: PlannedRequest,
    *,
    model: str,
    caller: Caller,
    meter: Meter,
    span: Span,
) -> Iterator[Account]:
    """Record a request from now to the end of the block, however it ends. `model` is the name of the base model."""
    plan, adapter = planned.plan, request.adapter
    labels = RequestLabels(planned.strategy.name, model, adapter.name if adapter else "")
    trace = SearchTrace(
        request.id, str(adapter or model), planned.strategy.name, bin=plan.bin, difficulty=plan.difficulty_before,
        adapter=labels.adapter, owner=caller.owner, base=model, otel_trace_id=span.trace_id,
    )  # fmt: skip
    source = PlanLabels(_plan_source(request, planned), str(plan.bin), request.effort.value)
    with observers.metrics.request(labels, source, meter, trace), observers.traces.recorded(caller.key, trace):
        yield Account(observers, request, planned, labels, meter, trace, span)


def _plan_source(request: InferenceRequest, planned: PlannedRequest) -> str:
    """Return who chose the plan: `caller`, `policy` (calibrated) or `prior` (the general estimator)."""
    if request.strategy not in (None, AUTO):
        return "caller"
    return "policy" if planned.plan.is_calibrated else "prior"
