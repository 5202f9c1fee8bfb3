"""Branches as spans. Those that are not recorded are run as they are, and pay nothing for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from app.telemetry.span_attributes import of_candidate
from app.telemetry.spans import Span
from strategies.core.values import Candidate

Draw = TypeVar("Draw")
Branch = Callable[[Draw, int], Coroutine[Any, Any, Candidate | None]]


def in_spans(wave: Span, branch: Branch[Draw]) -> Branch[Draw]:
    """The same work, each time within a span of the wave's. It names the task that it runs in."""

    async def traced(draw: Draw, index: int) -> Candidate | None:
        with wave.child("branch") as span:
            span.set({"ponder.branch.index": index})
            try:
                candidate = await branch(draw, index)
            finally:
                span.set({"ponder.branch.id": asyncio.current_task().get_name()})  # type: ignore[union-attr] # runs in a task
            if candidate is not None:
                span.set(of_candidate(candidate))
            return candidate

    return traced
