"""Spans of branches. They are wrapped around the work only where they are recorded, so others pay nothing."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from app.telemetry.span_attributes import of_candidate
from app.telemetry.spans import Span
from strategies.core.values import Candidate

Wave = TypeVar("Wave")
Branch = Callable[[Wave, int], Coroutine[Any, Any, Candidate | None]]


def in_spans(wave_span: Span, branch: Branch[Wave]) -> Branch[Wave]:
    """Return a function that does the work of `branch` within a span, a child of `wave_span`.

    The branch must run in a task of its own and name that task after its id in the engine.
    """

    async def branch_in_span(wave: Wave, index: int) -> Candidate | None:
        with wave_span.child("branch") as span:
            span.set({"ponder.branch.index": index})
            try:
                candidate = await branch(wave, index)
            finally:
                span.set({"ponder.branch.id": asyncio.current_task().get_name()})  # type: ignore[union-attr] # runs in a task
            if candidate is not None:
                span.set(of_candidate(candidate))
            return candidate

    return branch_in_span
