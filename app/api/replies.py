"""OpenAI's response shapes, built from an outcome: one `Shape` for chat, one for text completions, the flow the same for both."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.engine.base import Prompt, ReplyParser
from app.request import Outcome
from app.routing.policy import Plan
from app.serving.planning import PlannedRequest
from app.serving.preview import Preview
from app.serving.session import Session
from strategies.core.results import TraceNode
from strategies.core.values import Candidate, Delta, TokenLogprob


@dataclass(slots=True)
class ChoiceState:
    """What one streamed choice remembers between its deltas."""

    parser: ReplyParser
    prompt: Prompt
    has_calls: bool = False
    num_chars: int = 0


class Shape(Protocol):
    """What differs between `chat.completion` and `text_completion`."""

    id_prefix: str
    object: str
    chunk_object: str

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """A whole choice."""
        ...

    def opening(self, index: int) -> dict[str, Any] | None:
        """The choice of the first chunk, sent before anything is generated."""
        ...

    def delta(self, session: Session, index: int, delta: Delta, state: ChoiceState) -> dict[str, Any] | None:
        """The choice of a chunk for newly generated text; None when there is nothing to show yet."""
        ...

    def progress(self, text: str) -> dict[str, Any] | None:
        """The choice of a chunk that tells how the search goes; None where the shape has no place for it."""
        ...


class ChatShape:
    """`chat.completion`."""

    id_prefix = "chatcmpl-"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """A whole message, tool calls parsed."""
        prompt = session.rendered.prompts[number]
        fields = session.engine.parser(prompt).parse(candidate.text, candidate.token_ids)
        choice: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "refusal": None, **fields},
            "logprobs": _chat_logprobs(candidate.logprobs, session.request.num_logprobs),
            "finish_reason": _finish(
                candidate.finish_reason, has_calls=bool(fields.get("tool_calls")) and not _names_tool(session)
            ),
        }
        return {**choice, "stop_reason": candidate.stop_reason} if candidate.stop_reason is not None else choice

    def opening(self, index: int) -> dict[str, Any] | None:
        """The role."""
        return _chunk_choice(index, {"role": "assistant", "content": ""})

    def delta(self, session: Session, index: int, delta: Delta, state: ChoiceState) -> dict[str, Any] | None:
        """Content, tool calls and log-probabilities as they come."""
        fields = state.parser.feed(delta.text, delta.token_ids, is_last=delta.finish_reason is not None)
        state.has_calls = state.has_calls or bool(fields and fields.get("tool_calls"))
        logprobs = _chat_logprobs(delta.logprobs, session.request.num_logprobs)
        if fields is None and logprobs is None and delta.finish_reason is None:
            return None
        finish = _finish(delta.finish_reason, has_calls=state.has_calls and not _names_tool(session))
        return _chunk_choice(index, fields or {}, finish, logprobs)

    def progress(self, text: str) -> dict[str, Any] | None:
        """A line of reasoning."""
        return _chunk_choice(0, {"reasoning": text + "\n"})


class CompletionShape:
    """`text_completion`."""

    id_prefix = "cmpl-"
    object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, *, echo: bool) -> None:
        self._echo = echo

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """The text, after the prompt's when it is echoed."""
        text = session.rendered.prompts[number].text if self._echo else ""
        return {
            "index": index,
            "text": text + candidate.text,
            "logprobs": _completion_logprobs(candidate.logprobs, session.request.num_logprobs, len(text)),
            "finish_reason": _finish(candidate.finish_reason),
            "stop_reason": candidate.stop_reason,
        }

    def opening(self, index: int) -> dict[str, Any] | None:  # noqa: ARG002 - the protocol's signature
        """Text completions have no role to send."""
        return None

    def delta(self, session: Session, index: int, delta: Delta, state: ChoiceState) -> dict[str, Any] | None:
        """The new text; an echoed prompt comes with the first."""
        text = state.prompt.text + delta.text if self._echo and not state.num_chars else delta.text
        offset = state.num_chars + len(text) - len(delta.text)
        state.num_chars += len(text)
        logprobs = _completion_logprobs(delta.logprobs, session.request.num_logprobs, offset)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": _finish(delta.finish_reason)}

    def progress(self, text: str) -> dict[str, Any] | None:  # noqa: ARG002 - the protocol's signature
        """There is no field for reasoning in a text completion."""
        return None


def envelope(shape: Shape, session: Session, *, is_chunk: bool) -> dict[str, Any]:
    """What every response and chunk begins with."""
    return {
        "id": shape.id_prefix + session.request.id,
        "object": shape.chunk_object if is_chunk else shape.object,
        "created": int(time.time()),
        "model": session.model,
    }


def usage(session: Session, outcome: Outcome) -> dict[str, Any]:
    """Every token of every branch; those not in a visible answer are `reasoning_tokens`. The prompt counts once."""
    chosen = [scored.candidate for result in outcome.results for scored in result.chosen]
    given = sum(entry.is_given for candidate in chosen for entry in candidate.logprobs)
    visible = sum(len(candidate.token_ids) for candidate in chosen) - given
    prompt = sum(len(one.token_ids) for one in session.rendered.prompts)
    generated = session.meter.generated_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": session.meter.prompt_cached or 0},
        "completion_tokens_details": {"reasoning_tokens": max(generated - visible, 0)},
    }


def _plan(planned: PlannedRequest) -> dict[str, Any]:
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
    return {**_plan(session.planned), "difficulty": _difficulty(session.planned.plan)}


def ponder_object(session: Session, outcome: Outcome) -> dict[str, Any]:
    """Return the whole `ponder` object: what was done, why, and what it cost."""
    meter = session.meter
    verifier_adapters = {name: lease.version.id for name, lease in session.leases.verifiers.items()}
    return {
        **ponder_opening(session),
        "adapter": session.leases.generator and session.leases.generator.version.id,
        "verifier_adapters": verifier_adapters,
        "parts": verifier_adapters,  # deprecated: the former name of `verifier_adapters`
        "answer_kind": session.planned.kind.value,
        "stop_reason": outcome.stop_reason.value,
        "notes": [note for result in outcome.results for note in result.notes],
        "candidates": [
            {
                "index": scored.candidate.index,
                "answer": scored.answer,
                "score": scored.score,
                "tokens": len(scored.candidate.token_ids),
                "finish_reason": scored.candidate.finish_reason,
            }
            for result in outcome.results
            for scored in result.candidates
        ],
        "branches": {"drawn": meter.branches["drawn"], "cancelled": meter.branches["cancelled"]},
        "tokens": {kind: meter.tokens[kind] for kind in ("prefilled", "cached", "decoded", "verified")},
        "flops": {
            **{phase: meter.flops[phase] for phase in ("prefill", "decode", "verify")},
            "total": meter.total_flops,
            "saved_by_cache": meter.saved["cache"],
            "saved_by_early_stopping": meter.saved["early_stopping"],
            "best_of_16": meter.best_of,
        },
        "seconds": {phase: round(seconds, 6) for phase, seconds in meter.seconds.items()},
        "trace_id": session.request.id,
    }


def _difficulty(plan: Plan) -> dict[str, float | None] | None:
    """The probability that the answer is wrong, from the prompt alone and after what was drawn; null where nothing was measured."""
    if plan.difficulty is None:
        return None
    after = None if plan.rule is None else plan.rule.difficulty_after_wave
    return {"before": round(plan.difficulty, 4), "after": None if after is None else round(after, 4)}


def node(number: int, one: TraceNode) -> dict[str, Any]:
    """A node of the search tree; `prompt` is the number of the prompt, where a request has several."""
    return {
        "id": one.id,
        "parent": one.parent,
        "prompt": number,
        "state": one.state.value,
        "text": one.text,
        "tokens": one.tokens,
        "score": one.verdict,
        "verdict": one.verdict,  # deprecated: the former name of `score`
        "value": one.value,
        "visits": one.visits,
        "answer": one.answer,
        "finish_reason": one.finish_reason,
        "flops": one.cost.flops,
        "cached_tokens": one.cost.cached_tokens,
        "started": round(one.cost.started, 6),
        "seconds": round(one.cost.seconds, 6),
    }


def preview(result: Preview) -> dict[str, Any]:
    """Return the body of a dry run's reply: the plan, what it is expected to take, and what it may not exceed."""
    plan, run = result.planned.plan, result.predicted
    return {
        "object": "ponder.preview",
        "model": result.model,
        "ponder": {
            **_plan(result.planned),
            "difficulty": plan.difficulty,
            "alternatives": [one.model_dump(mode="json") for one in plan.alternatives],
            "answer_kind": result.planned.kind.value,
            "prompt_tokens": result.prompt_tokens,
            "predicted": {
                "branches": run.branches,
                "rounds": run.rounds,
                "tokens": run.cost.tokens,
                "flops": run.cost.flops,
                "seconds": None if run.cost.seconds is None else round(run.cost.seconds, 3),
                "answer_tokens": run.cost.answer_tokens,
            },
            "budget": {"tokens": result.budget.tokens, "flops": result.budget.flops, "seconds": result.budget.seconds},
        },
    }


def headers(session: Session, outcome: Outcome | None = None) -> dict[str, str]:
    """`x-ponder-*`: what is known when the headers are sent; a stream's totals come in its last chunk."""
    known = {"x-ponder-strategy": session.planned.strategy.name, "x-ponder-trace-id": session.request.id}
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


def _chunk_choice(
    index: int, delta: Mapping[str, Any], finish: str | None = None, logprobs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _names_tool(session: Session) -> bool:
    """OpenAI ends a choice with "stop", not "tool_calls", when the caller named the tool to call."""
    return isinstance(session.request.bodies[0].get("tool_choice"), dict)


def _finish(reason: str | None, *, has_calls: bool = False) -> str | None:
    """OpenAI knows no aborted answer: one that a budget, a deadline or a search ended is cut by length."""
    if reason in ("abort", "step"):
        return "length"
    return "tool_calls" if has_calls and reason == "stop" else reason


def _chat_logprobs(entries: Sequence[TokenLogprob], num_top: int | None) -> dict[str, Any] | None:
    if num_top is None or not entries:
        return None
    content = []
    for entry in entries:
        top = [_token(token, logprob) for token, logprob in entry.top[:num_top]]
        content.append({**_token(entry.token, entry.logprob), "top_logprobs": top})
    return {"content": content, "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    # -inf is not JSON; -9999 is what OpenAI's own API says for "too improbable".
    return {"token": token, "logprob": max(logprob, -9999.0), "bytes": list(token.encode())}


def _completion_logprobs(entries: Sequence[TokenLogprob], num_top: int | None, offset: int) -> dict[str, Any] | None:
    if num_top is None or not entries:
        return None
    offsets = []
    for entry in entries:
        offsets.append(offset)
        offset += len(entry.token)
    return {
        "tokens": [entry.token for entry in entries],
        "token_logprobs": [max(entry.logprob, -9999.0) for entry in entries],
        "top_logprobs": [{token: max(logprob, -9999.0) for token, logprob in entry.top[:num_top]} for entry in entries],
        "text_offset": offsets,
    }
