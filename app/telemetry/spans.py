"""The port of tracing, and the tracer of a server without a collector: it does nothing, at next to no cost.

Parents are passed on by hand and not by context variables: a stream's request begins in one task and ends in another. Where nothing is
recorded every span is the same one, so that whoever makes attributes asks `is_recording` first.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

Value = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, Value]


class Span:
    """A piece of work, from its making to the end of its `with` block; this one is recorded nowhere.

    Attributes:
        is_recording: somebody will read its attributes.
        trace_id: 32 hexadecimal digits, where it is recorded.

    """

    __slots__ = ()
    is_recording = False
    trace_id: str | None = None

    def child(self, name: str) -> "Span":  # noqa: ARG002 - for those that are recorded
        """A piece of this work."""
        return self

    def set(self, attributes: Attributes) -> None:
        """Tell more of it. Nothing of prompts and answers."""

    def at_end(self, attributes: Callable[[], Attributes]) -> None:
        """Tell what is known at its end only."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What joins the spans of another server, which is asked on behalf of this work, to this trace."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """End it, with the error that ended it if there is one."""


NO_SPAN = Span()
"""For what is not traced; it has no state."""


class Tracer:
    """Begins the spans of requests; this one records none."""

    def request(self, trace_context: Mapping[str, str]) -> Span:  # noqa: ARG002 - for those that record
        """Of one request. `trace_context`: the W3C headers `traceparent` and `tracestate` as its caller sent them, whatever they hold."""
        return NO_SPAN

    async def close(self) -> None:
        """Hand in what was recorded, within a bounded time."""


def span_of(model: object) -> Span:
    """The span that whoever uses the model works for; those of tests have none."""
    span = getattr(model, "span", NO_SPAN)
    return span if isinstance(span, Span) else NO_SPAN
