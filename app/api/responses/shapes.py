"""The `response` object: what it says before anything is generated, and what it says at its end."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.api import replies
from app.api.responses.conversion import Converted
from app.api.responses.schemas import Item, ResponsesRequest
from app.request import Outcome
from app.serving.session import Session


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess, such as `resp_…`."""
    return f"{prefix}_{uuid.uuid4().hex}"


_PREFIXES = {"function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def new_item_id(kind: str) -> str:
    """Return an id for an item of this type, which its prefix tells as in OpenAI's ids."""
    return new_id(_PREFIXES.get(kind, "msg"))


def opened(body: ResponsesRequest, asked: Converted, model: str) -> dict[str, Any]:
    """Return a `response` without output. Its status is `queued` in the background, else `in_progress`."""
    reasoning = body.reasoning
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "queued" if body.background else "in_progress",
        "background": body.background,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "metadata": body.metadata,
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": reasoning and reasoning.effort, "summary": reasoning and reasoning.summary},
        "service_tier": "default",
        "store": body.store,
        "temperature": body.temperature,
        "text": {"format": _format(body.text.format), "verbosity": body.text.verbosity},
        "tool_choice": asked.tool_choice,
        "tools": [{"parameters": None, "strict": None, **tool} for tool in asked.tools],
        "top_logprobs": body.top_logprobs,
        "top_p": body.top_p,
        "truncation": body.truncation,
        "usage": None,
    }


def _format(form: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "answer", **form} if form.get("type") == "json_schema" else dict(form)


def identified(item: Item) -> Item:
    """Return an input item with an id and its type."""
    kind = item.get("type") or "message"
    return {**item, "type": kind, "id": item.get("id") or new_item_id(str(kind))}


def listed(item: Item) -> Item:
    """Return an item of a conversation as lists show it: a text is a part, and everything has a status."""
    content = item.get("content")
    if item["type"] == "message" and isinstance(content, str):
        is_answer = item.get("role") == "assistant"
        part = (
            {"type": "output_text", "text": content, "annotations": []}
            if is_answer
            else {"type": "input_text", "text": content}
        )
        item = {**item, "content": [part]}
    return {"status": "completed", **item}


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known at the end of a response, besides its output.

    Attributes:
        is_cut: whether a limit ended the answer.

    """

    is_cut: bool
    usage: Mapping[str, Any]
    ponder: Mapping[str, Any]


def ending(session: Session, outcome: Outcome) -> Ending:
    """Return the end of an answered request, and complete its trace."""
    ponder = replies.finish_trace(session, outcome)
    finish = outcome.results[0].chosen[0].candidate.finish_reason
    return Ending(finish not in ("stop", "tool_calls"), _usage(session, outcome), ponder)


def _usage(session: Session, outcome: Outcome) -> dict[str, Any]:
    usage = replies.usage(session, outcome)
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": usage["prompt_tokens_details"]["cached_tokens"], "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": usage["total_tokens"],
    }
