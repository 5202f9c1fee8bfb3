"""The port of OpenTelemetry's spans, and its do-nothing implementation for servers without a collector.

Spans are not the search trace (`app.search_traces`): that holds the nodes of a search with their texts, on this server. Spans go to
a collector and hold times, tokens and FLOPs, never a word of a prompt or an answer.

A parent is passed as an argument and not in a context variable, because a streamed request begins in one task and ends in another.
`NO_SPAN` stands for every span that is not recorded. Making attributes costs time, so callers ask `is_recording` first.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

Value = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, Value]


class Span:
    """A piece of work: it starts when it is made and ends with its `with` block. This base class records nothing.

    Attributes:
        is_recording: whether its attributes go to a collector.
        trace_id: id of the OpenTelemetry trace that it belongs to, 32 hexadecimal digits; None where it is not recorded.

    """

    __slots__ = ()
    is_recording = False
    trace_id: str | None = None

    def child(self, name: str) -> "Span":  # noqa: ARG002 - used by spans that are recorded
        """Start a span for a part of this work."""
        return self

    def set(self, attributes: Attributes) -> None:
        """Add attributes. They must hold nothing of prompts and answers."""

    def set_at_end(self, attributes: Callable[[], Attributes]) -> None:
        """Add the attributes that this function returns when the span ends."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The W3C headers for a request to another server, which make its spans children of this one."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """End the span, with the error that ended the block if there is one."""


NO_SPAN = Span()
"""Stands for all spans that are not recorded. It has no state, so one is enough."""


class Tracer:
    """Starts the spans of requests. This base class records none."""

    def request(self, trace_context: Mapping[str, str]) -> Span:  # noqa: ARG002 - used by tracers that record
        """Start the span of one request.

        Args:
            trace_context: the W3C headers `traceparent` and `tracestate` as the caller sent them. They may be malformed.

        """
        return NO_SPAN

    async def close(self) -> None:
        """Send what was recorded, within a bounded time."""


def span_of(model: object) -> Span:
    """Return the span that a `Model` works for; `NO_SPAN` for models that have none, such as those of tests."""
    span = getattr(model, "span", NO_SPAN)
    return span if isinstance(span, Span) else NO_SPAN
