"""What spans tell, by the names of OpenTelemetry's conventions for generative AI where they have one; nothing of prompts and answers."""

from functools import partial

from app.metering.meter import Meter
from app.request import InferenceRequest, Outcome
from app.telemetry.spans import Attributes, Span, Tracer, Value
from strategies.core.results import Result
from strategies.core.values import Candidate


def request_span(tracer: Tracer, request: InferenceRequest, model: str, meter: Meter) -> Span:
    """The span of a request; what it cost is told at the end, however it ends."""
    span = tracer.request(request.trace_context)
    if span.is_recording:
        span.set(_of_request(request, model))
        span.at_end(partial(_of_meter, meter))
    return span


def _of_request(request: InferenceRequest, model: str) -> Attributes:
    told: dict[str, Value] = {
        "gen_ai.operation.name": "chat" if request.is_chat else "text_completion",
        "gen_ai.provider.name": "ponder",
        "gen_ai.request.model": str(request.adapter or model),
        "gen_ai.request.choice.count": request.num_choices,
        "gen_ai.request.stream": request.is_watched,
        "ponder.request.id": request.id,
        "ponder.request.prompts": len(request.bodies),
        "ponder.effort": request.effort.value,
    }
    if request.temperature is not None:
        told["gen_ai.request.temperature"] = request.temperature
    return told


def _of_meter(meter: Meter) -> Attributes:
    told: dict[str, Value] = {
        "gen_ai.usage.output_tokens": meter.generated_tokens,
        "gen_ai.usage.cache_read.input_tokens": meter.prompt_cached or 0,
        "ponder.flops.total": meter.total_flops,
        "ponder.flops.saved_by_cache": meter.saved["cache"],
    }
    for name, counts in (("tokens", meter.tokens), ("flops", meter.flops), ("branches", meter.branches)):
        told |= {f"ponder.{name}.{kind}": count for kind, count in counts.items()}
    told |= {f"ponder.seconds.{phase}": seconds for phase, seconds in meter.seconds.items()}
    if meter.stopped is not None:
        told["ponder.budget.exhausted"] = meter.stopped.value.removeprefix("budget_")
    return told


def of_outcome(outcome: Outcome) -> Attributes:
    """How a request was answered."""
    chosen = [scored.candidate for result in outcome.results for scored in result.chosen]
    return {
        "ponder.stop_reason": outcome.stop_reason.value,
        "gen_ai.response.finish_reasons": tuple(candidate.finish_reason for candidate in chosen),
    }


def of_result(result: Result) -> Attributes:
    """How one run of a strategy went."""
    told: dict[str, Value] = {
        "ponder.stop_reason": result.stop_reason.value,
        "ponder.candidates": len(result.candidates),
        "ponder.nodes": len(result.nodes),
    }
    if result.agreement is not None:
        told["ponder.agreement"] = result.agreement
    return told


def of_candidate(candidate: Candidate) -> Attributes:
    """What a branch came to."""
    return {
        "gen_ai.usage.output_tokens": len(candidate.token_ids),
        "ponder.finish_reason": candidate.finish_reason,
        "ponder.tokens.cached": candidate.cost.cached_tokens,
        "ponder.flops.total": candidate.cost.flops,
    }
