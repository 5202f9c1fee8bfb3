"""The parts of a reply in Anthropic's shape: the message, its blocks, why it stopped, and its usage."""

import json
from typing import Any

from app.api import replies
from app.api.anthropic.conversion import MODEL, SEARCH
from app.request import Outcome
from app.serving.session import Session
from strategies.core.values import Candidate


def message(session: Session, **fields: Any) -> dict[str, Any]:
    """Return a message with these fields; without them it is empty, as at the start of a stream."""
    return {
        "id": f"msg_{session.request.id}",
        "type": "message",
        "role": "assistant",
        "model": session.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(session.rendered.num_tokens, 0, 0),
        **fields,
    }


def content(session: Session, candidate: Candidate, progress: str, *, shows_thinking: bool) -> list[dict[str, Any]]:
    """Return the blocks of a whole answer behind the progress of its search. There is always one, since clients read the first."""
    parser = session.engine.parser(session.rendered.prompts[0])
    fields = parser.parse(candidate.text, candidate.token_ids, is_cut=not candidate.is_complete)
    blocks = [thinking(progress, SEARCH)] if progress else []
    if shows_thinking and fields.get("reasoning"):
        blocks.append(thinking(fields["reasoning"], MODEL))
    calls = [tool_use(call, _input(call["function"]["arguments"])) for call in fields.get("tool_calls") or []]
    if fields.get("content") or not calls:
        blocks.append(text(fields.get("content") or ""))
    return [*blocks, *calls]


def text(value: str) -> dict[str, Any]:
    """Return a block of text."""
    return {"type": "text", "text": value}


def thinking(value: str, signature: str) -> dict[str, Any]:
    """Return a block of thinking; the signature says whose it is."""
    return {"type": "thinking", "thinking": value, "signature": signature}


def tool_use(call: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the block of a call."""
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": arguments}


def _input(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call; empty where the answer was cut inside of them."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def stop(finish_reason: str | None, stop_reason: int | str | None, *, has_calls: bool) -> dict[str, Any]:
    """Return why an answer ended. Anthropic has no reason for a budget, a deadline or a search that ended it: that is `max_tokens`."""
    if finish_reason != "stop":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if has_calls:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if isinstance(stop_reason, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_reason}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def usage(session: Session, outcome: Outcome) -> dict[str, Any]:
    """Return the tokens of the prompt, which counts once, and every generated token of every branch."""
    counted = replies.usage(session, outcome)
    cached = counted["prompt_tokens_details"]["cached_tokens"]
    return {
        **_usage(counted["prompt_tokens"], cached, counted["completion_tokens"]),
        "output_tokens_details": {"thinking_tokens": counted["completion_tokens_details"]["reasoning_tokens"]},
    }


def _usage(prompt: int, cached: int, generated: int) -> dict[str, Any]:
    return {
        "input_tokens": prompt - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": generated,
    }
