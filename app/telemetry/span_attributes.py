"""The attributes of spans. They hold nothing of prompts and answers.

Where OpenTelemetry's conventions for generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/) have a name, it is used;
all other names begin with `ponder.`.
"""

from functools import partial

from app.metering.meter import Meter
from app.request import InferenceRequest, Outcome
from app.telemetry.spans import Attributes, Span, Tracer, Value
from strategies.core.results import Result
from strategies.core.values import Candidate


def request_span(tracer: Tracer, request: InferenceRequest, model: str, meter: Meter) -> Span:
    """Start the span of a request to the base model `model`. Its cost is read from the meter when the span ends."""
    span = tracer.request(request.trace_context)
    if span.is_recording:
        span.set(_of_request(request, model))
        span.set_at_end(partial(_of_meter, meter))
    return span


def _of_request(request: InferenceRequest, model: str) -> Attributes:
    attributes: dict[str, Value] = {
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
        attributes["gen_ai.request.temperature"] = request.temperature
    return attributes


def _of_meter(meter: Meter) -> Attributes:
    attributes: dict[str, Value] = {
        "gen_ai.usage.output_tokens": meter.generated_tokens,
        "gen_ai.usage.cache_read.input_tokens": meter.prompt_cached or 0,
        "ponder.flops.total": meter.total_flops,
        "ponder.flops.saved_by_cache": meter.saved["cache"],
    }
    for name, counts in (("tokens", meter.tokens), ("flops", meter.flops), ("branches", meter.branches)):
        attributes |= {f"ponder.{name}.{kind}": count for kind, count in counts.items()}
    attributes |= {f"ponder.seconds.{phase}": seconds for phase, seconds in meter.seconds.items()}
    if meter.stopped is not None:
        attributes["ponder.budget.exhausted"] = meter.stopped.value.removeprefix("budget_")
    return attributes


def of_outcome(outcome: Outcome) -> Attributes:
    """Return why an answered request stopped, and how its chosen answers ended."""
    chosen = [scored.candidate for result in outcome.results for scored in result.chosen]
    return {
        "ponder.stop_reason": outcome.stop_reason.value,
        "gen_ai.response.finish_reasons": tuple(candidate.finish_reason for candidate in chosen),
    }


def of_result(result: Result) -> Attributes:
    """Return the size of one run of a strategy, why it stopped, and how far its answers agreed."""
    attributes: dict[str, Value] = {
        "ponder.stop_reason": result.stop_reason.value,
        "ponder.candidates": len(result.candidates),
        "ponder.nodes": len(result.nodes),
    }
    if result.agreement is not None:
        attributes["ponder.agreement"] = result.agreement
    return attributes


def of_candidate(candidate: Candidate) -> Attributes:
    """Return the tokens and FLOPs of a branch, and how it ended."""
    return {
        "gen_ai.usage.output_tokens": len(candidate.token_ids),
        "ponder.finish_reason": candidate.finish_reason,
        "ponder.thinking.is_cut": candidate.is_thinking_cut,
        "ponder.tokens.cached": candidate.cost.cached_tokens,
        "ponder.flops.total": candidate.cost.flops,
    }
