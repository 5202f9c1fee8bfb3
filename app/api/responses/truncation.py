"""`truncation: "auto"`: leaves out the oldest items of a conversation that is too long for the model's context."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from app.api.requests import Origin
from app.api.responses.conversion import Converted, converted, own_names
from app.api.responses.schemas import Item, ResponsesRequest
from app.serving.service import Service

ROOM = 4
"""A truncated prompt leaves room for the longest answer that the caller wants, but at most for a part of the context: 1 in `ROOM`."""


async def fitting(service: Service, body: ResponsesRequest, items: Sequence[Item], origin: Origin) -> Converted:
    """Return the request for a conversation, without its oldest items where the caller wants that and they do not fit.

    Messages of the system and the developer stay, and so does the last one. A prompt that does not fit even then is returned whole: it
    will be refused.
    """
    asked = converted(body, items, origin)
    if body.truncation == "disabled":
        return asked
    with own_names(asked.positions):
        async with service.with_images(asked.request.bodies[0], asked.request.modalities) as loaded:
            start = await _first_start(service, asked, loaded, items, body.max_output_tokens)
    if start is None:
        return asked
    kept = _kept(items, start)
    note = f"truncation: {len(items) - len(kept)} of the oldest input items were left out, so that the prompt fits"
    shorter = converted(body, [items[position] for position in kept], origin)
    return replace(shorter, request=replace(shorter.request, notes=(*shorter.request.notes, note)))


async def _first_start(
    service: Service, asked: Converted, loaded: Mapping[str, Any], items: Sequence[Item], max_tokens: int | None
) -> int | None:
    """Return the position from which on the items fit; None where all of them fit, or none."""
    if await _fits(service, asked, loaded, asked.positions, 1):
        return None
    most = max(service.engine.card.max_model_len // ROOM, 1)
    room = min(max_tokens or most, most)
    latest = _latest_start(items)
    starts = [position for position in asked.positions if 0 < position <= latest]
    first, last = 0, len(starts) - 1
    while first <= last:
        await asyncio.sleep(0)
        middle = (first + last) // 2
        if await _fits(service, asked, loaded, _kept(items, starts[middle]), room):
            last = middle - 1
        else:
            first = middle + 1
    return starts[first] if first < len(starts) else None


async def _fits(service: Service, asked: Converted, body: Mapping[str, Any], kept: Sequence[int], room: int) -> bool:
    """Whether the prompt fits with those messages of the body alone that came from the items at the positions `kept`."""
    engine = service.engine
    wanted = {-1, *kept}
    is_kept = [position in wanted for position in asked.positions]
    if sum(len(message.text) for message in compress(asked.chat.messages, is_kept)) > service.planning.limits.max_prompt_chars:
        return False
    with own_names():
        messages = list(compress(body["messages"], is_kept))
        shorter = {"messages": messages, "tools": body.get("tools"), "chat_template_kwargs": _variables(body)}
        tokens = await engine.tokenize(shorter, template=service.names.template_of(asked.request.adapter))
    return len(tokens) + room <= engine.card.max_model_len


def _variables(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the chat template, as vLLM makes them of a chat: the effort is one, and switches thinking on or off."""
    effort, given = body.get("reasoning_effort"), body.get("chat_template_kwargs") or {}
    return given if effort is None else {"enable_thinking": effort != "none", **given, "reasoning_effort": effort}


def _latest_start(items: Sequence[Item]) -> int:
    """Return the position of the last item, or of the call that it is the output of."""
    last = items[-1]
    if last.get("type") == "function_call_output":
        for position, item in enumerate(items):
            if item.get("type") == "function_call" and item.get("call_id") == last.get("call_id"):
                return position
    return len(items) - 1


def _kept(items: Sequence[Item], start: int) -> list[int]:
    """Return the positions from `start` on and of the instructions before. A call that is left out takes its output along."""
    lost = {item.get("call_id") for item in items[:start] if item.get("type") == "function_call"}
    return [
        position
        for position, item in enumerate(items)
        if (position >= start or item.get("role") in ("system", "developer"))
        and not (item.get("type") == "function_call_output" and item.get("call_id") in lost)
    ]
