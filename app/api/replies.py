"""Builds all parts of a reply except its choices: the envelope, `usage`, the `ponder` object, nodes, headers, and the HTTP response."""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import Response

from app.api.shapes import Shape
from app.api.sse import EventStream
from app.metering.meter import BRANCHES, FLOP_PHASES, TOKENS
from app.request import Outcome
from app.routing.difficulty import Difficulty
from app.routing.policy import Plan
from app.serving.planning import PlannedRequest
from app.serving.session import Leg, Session
from strategies.core.results import TraceNode
from strategies.core.values import Candidate

_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
"""Names of fields that may stand in a header: the client chose them."""


def envelope(shape: Shape, session: Session, *, is_chunk: bool) -> dict[str, Any]:
    """Return the fields that every response and chunk has."""
    return {
        "id": shape.id_prefix + session.request.id,
        "object": shape.chunk_object if is_chunk else shape.object,
        "created": int(time.time()),
        "model": session.model,
    }


def usage(session: Session, outcome: Outcome) -> dict[str, Any]:
    """Return OpenAI's `usage`.

    It counts every generated token of every branch. Those that are not in a shown answer are `reasoning_tokens`: the thinking before
    these answers (`thinking_tokens`), and all other branches (`other_branch_tokens`). The prompt counts once for each model that read it,
    however many branches continued it.
    """
    chosen = [scored.candidate for result in outcome.results for scored in result.chosen]
    shown = sum(_num_generated(candidate, len(candidate.token_ids)) for candidate in chosen)
    thinking = sum(_num_generated(candidate, candidate.num_thinking) for candidate in chosen)
    prompt, meter = session.prompt_tokens, session.meter
    generated = meter.generated_tokens
    others = max(generated - shown, 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": min(meter.prompt_cached or 0, prompt)},
        "completion_tokens_details": {
            "reasoning_tokens": others + thinking,
            "thinking_tokens": thinking,
            "other_branch_tokens": others,
        },
    }


def _num_generated(candidate: Candidate, num: int) -> int:
    """Return how many of the first tokens of an answer the model generated itself. The server writes some, as the end of thinking."""
    entries = candidate.logprobs[:num]
    return num - (sum(entry.is_inserted for entry in entries) if entries else min(candidate.num_inserted, num))


def plan_fields(planned: PlannedRequest) -> dict[str, Any]:
    """Return the strategy and the plan."""
    return {
        "strategy": planned.strategy.name,
        "plan": {
            "parameters": planned.strategy.params.model_dump(mode="json"),
            "why": planned.plan.why,
            "calibrated": planned.plan.is_calibrated,
        },
    }


def ponder_opening(session: Session) -> dict[str, Any]:
    """Return the part of the `ponder` object that is known before anything is generated: the plan and the difficulty."""
    return {**plan_fields(session.planned), "difficulty": _difficulty(session.planned.plan)}


def finish_trace(session: Session, outcome: Outcome) -> dict[str, Any]:
    """Complete the trace of an answered request with its whole `ponder` object, and return the object."""
    ponder = _ponder_object(session, outcome)
    session.account.trace.finish(ponder)
    return ponder


def _ponder_object(session: Session, outcome: Outcome) -> dict[str, Any]:
    """Return the whole `ponder` object: what was done, why, and what it cost."""
    meter = session.meter
    verifier_adapters = {name: lease.version.id for name, lease in session.leases.verifiers.items()}
    return {
        **ponder_opening(session),
        "answered_by": session.model,
        "cascade": [_leg(one) for one in session.legs],
        "adapter": session.leases.generator and session.leases.generator.version.id,
        "verifier_adapters": verifier_adapters,
        "parts": verifier_adapters,  # deprecated: the former name of `verifier_adapters`
        "answer_kind": session.planned.kind.value,
        "stop_reason": outcome.stop_reason.value,
        "notes": [
            *_ignored_fields(session),
            *session.request.notes,
            *_idle_budget(session),
            *_moved(session),
            *(f"a replica of the engine: {loss}" for loss in session.engine.card.losses),
            *(note for result in outcome.results for note in result.notes),
        ],
        "candidates": [
            {
                "index": scored.candidate.index,
                "answer": scored.answer,
                "score": scored.score,
                "tokens": len(scored.candidate.token_ids),
                "thinking_tokens": _num_generated(scored.candidate, scored.candidate.num_thinking),
                "finish_reason": scored.candidate.finish_reason,
                "thinking_cut": scored.candidate.is_thinking_cut,
            }
            for result in outcome.results
            for scored in result.candidates
        ],
        "branches": {state: meter.branches[state] for state in BRANCHES},
        "tokens": {kind: meter.tokens[kind] for kind in TOKENS},
        "models": {
            model: {"tokens": {kind: spent.tokens[kind] for kind in TOKENS}, "flops": spent.flops.total()}
            for model, spent in meter.guests.items()
        },
        "flops": {
            **{phase: meter.flops[phase] for phase in FLOP_PHASES},
            "total": meter.total_flops,
            "saved_by_cache": meter.saved["cache"],
            "saved_by_early_stopping": meter.saved["early_stopping"],
            "best_of_16": meter.best_of,
            "is_estimate": session.engine.card.has_estimated_flops,
        },
        "seconds": {phase: round(seconds, 6) for phase, seconds in meter.seconds.items()},
        "trace_id": session.request.id,
    }


def _leg(one: Leg) -> dict[str, Any]:
    difficulty = None if one.difficulty is None else round(one.difficulty, 4)
    return {**asdict(one), "difficulty": difficulty}


def _ignored_fields(session: Session) -> list[str]:
    """Return a note that names the fields that nobody knows, if there are any."""
    ignored = session.request.ignored_fields
    return [f"ignored fields: {', '.join(ignored)}"] if ignored else []


def _idle_budget(session: Session) -> list[str]:
    """Return a note that the caller's budget for thinking has no effect, if that is so."""
    budget = session.request.budget
    limits = (budget.thinking_tokens, budget.total_thinking_tokens, budget.min_thinking_tokens)
    is_idle = limits != (None, None, None) and not any(one.thinking for one in session.rendered.prompts)
    return ["the budget for thinking has no effect: this model does not think here, or does not mark it"] if is_idle else []


def _moved(session: Session) -> list[str]:
    """Return a note that answers are not those of their seeds, if a failed replica is the cause."""
    moved = session.meter.branches["moved"]
    is_seeded = any(body.get("seed") is not None for body in session.request.bodies)
    return (
        [f"{moved} branches went on elsewhere when a replica failed: the seed does not give them again"]
        if moved and is_seeded
        else []
    )


def _difficulty(plan: Plan) -> dict[str, Any] | None:
    """Return the estimated probability that the answer is wrong, at three moments; None where none can be wrong."""
    if (before := plan.difficulty) is None:
        return None
    after = None if plan.rule is None else plan.rule.difficulty_after_wave
    first_tokens = None if plan.rule is None else plan.rule.difficulty_after_first_tokens
    return {
        "before": round(before.probability, 4),
        "interval": [round(before.low, 4), round(before.high, 4)],
        "first_tokens": None if first_tokens is None else round(first_tokens, 4),
        "after": None if after is None else round(after, 4),
        "estimator": before.estimator,
        "correction": _correction(before),
    }


def _correction(difficulty: Difficulty) -> dict[str, float] | None:
    """Return what was added to the log-odds of both estimates; None where the server does not learn."""
    lesson = difficulty.lesson
    return None if lesson is None else {"before": round(lesson.before_shift, 4), "after": round(lesson.after_shift, 4)}


def _node(number: int, one: TraceNode) -> dict[str, Any]:
    """Return a node of the search tree. `number` is the position of its prompt in the request, from 0."""
    return {
        "id": one.id,
        "parent": one.parent,
        "in_view": list(one.in_view),
        "prompt": number,
        "state": one.state.value,
        "text": one.text,
        "tokens": one.tokens,
        "score": one.score,
        "verdict": one.score,  # deprecated: the former name of `score`
        "value": one.value,
        "visits": one.visits,
        "answer": one.answer,
        "finish_reason": one.finish_reason,
        "flops": one.cost.flops,
        "cached_tokens": one.cost.cached_tokens,
        "started": round(one.cost.started, 6),
        "seconds": round(one.cost.seconds, 6),
    }


def nodes(changed: Iterable[tuple[int, TraceNode]]) -> list[dict[str, Any]]:
    """Return nodes of the search tree, each of which stands behind the position of its prompt."""
    return [_node(number, one) for number, one in changed]


def json_response(content: Any, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(content), media_type="application/json", headers=headers)


async def stream_response(
    opening: AbstractAsyncContextManager[Session], events: Callable[[Session], AsyncIterator[bytes]]
) -> Response:
    """Admit a request, and return the stream of its events. Raises what refuses the request.

    Args:
        opening: gives the session, as `Service.open` does. The response closes it: it is sent after this function has returned.
        events: returns the events of a session.

    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(opening)
        return EventStream(events(session), headers(session), stack.pop_all())


def headers(session: Session, outcome: Outcome | None = None) -> dict[str, str]:
    """Return the `x-ponder-*` headers. A stream's are sent before there is an outcome: its last chunk carries the totals."""
    known = {
        "x-ponder-model": session.model,
        "x-ponder-strategy": session.planned.strategy.name,
        "x-ponder-trace-id": session.request.id,
    }
    if names := [name for name in session.request.ignored_fields if _SAFE_NAME.fullmatch(name)]:
        known["x-ponder-ignored-fields"] = ", ".join(names)
    if session.leases.generator is not None:
        known["x-ponder-adapter"] = session.leases.generator.version.id
    if outcome is not None:
        known |= {
            "x-ponder-stop-reason": outcome.stop_reason.value,
            "x-ponder-candidates": str(sum(len(result.candidates) for result in outcome.results)),
            "x-ponder-tokens": str(session.meter.generated_tokens),
            "x-ponder-flops": str(session.meter.total_flops),
        }
    return known
