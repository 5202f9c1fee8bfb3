"""Spans by OpenTelemetry's SDK, sent over OTLP/HTTP by a thread of its own. The only module that imports `opentelemetry`.

Of the process one thing is changed, and for good: OpenTelemetry's loggers are silent. There is no global provider, and there are
no context variables. What does not fit in the queue is dropped, a collector that does not answer is told of in the log once, and the end
waits for it no longer than `FLUSH_S`.
"""

import asyncio
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.errors import Disconnected, InvalidRequest, NotFound, first_error
from app.telemetry.otel_logging import Reason, silence
from app.telemetry.spans import NO_SPAN, Attributes, Span, Tracer, Value

logger = logging.getLogger("ponder.tracing")

MAX_SPANS = 4096
"""Recorded and not sent yet; those beyond are dropped."""

EXPORT_S = 5.0
"""How long the collector may take for a batch, retries included."""

FLUSH_S = 3.0
"""How long the end waits for the last batches."""

FOLLOWED_SPANS_PER_S = 100
"""While fewer are recorded, a caller's `sampled` flag is followed. Each costs 70 to 130 us: about one percent of a core."""

MAX_HEADER_CHARS = 512
"""What W3C asks to be passed on at least; longer ones are not read."""


class OtelTracer(Tracer):
    """Sends what it records to one collector.

    Args:
        endpoint: the collector's base URL, to which `/v1/traces` is appended.
        ratio: share of the requests that are recorded whose callers do not say whether they record theirs.
        model: what is served, and `version` of what.

    """

    def __init__(self, endpoint: str, ratio: float, *, model: str, version: str) -> None:
        resource = {"service.name": "ponder", "service.version": version, "service.instance.id": str(uuid.uuid4())}
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # who is recorded is decided here, before the SDK is asked
            resource=Resource.create({**resource, "ponder.model": model}),
            shutdown_on_exit=False,
        )
        self._exporter = _Exporter(f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=MAX_SPANS))
        self._spans = self._provider.get_tracer("ponder", version)
        self._ratio = ratio
        self._left = float(FOLLOWED_SPANS_PER_S)
        self._counted_at = time.monotonic()

    def request(self, trace_context: Mapping[str, str]) -> Span:
        """Recorded as the caller records (as far as `FOLLOWED_SPANS_PER_S` goes); who does not say, by chance."""
        is_chosen = random.random() < self._ratio  # noqa: S311 - chance, not a secret
        if not trace_context and not is_chosen:  # nearly all
            return NO_SPAN
        parent, says, is_sampled = _parent(trace_context)
        if says and not is_sampled:
            return _Passed(parent)
        if is_chosen or (says and self._has_room()):
            return _Recorded(self, "request", parent, SpanKind.SERVER)
        return _Passed(parent) if says else NO_SPAN

    def _has_room(self) -> bool:
        now = time.monotonic()
        self._left = min(self._left + (now - self._counted_at) * FOLLOWED_SPANS_PER_S, FOLLOWED_SPANS_PER_S)
        self._counted_at = now
        return self._left > 0

    def start(self, name: str, parent: Context, kind: SpanKind) -> SdkSpan:
        """A span of the SDK's."""
        self._left -= 1
        return self._spans.start_span(name, parent, kind)

    async def close(self) -> None:
        """In a thread that nobody waits for any longer than this: the SDK itself may wait for half a minute."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=end, name="tracing-flush", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_S):
                await done.wait()
        except TimeoutError:
            logger.warning("the last spans did not reach the collector within %g s", FLUSH_S)
            self._exporter.shutdown()


class _Recorded(Span):
    """A span of the SDK's. What it tells is handed over once, at its end."""

    __slots__ = ("_at_end", "_attributes", "_context", "_parent", "_span", "_tracer")
    is_recording = True

    def __init__(self, tracer: OtelTracer, name: str, parent: Context, kind: SpanKind = SpanKind.INTERNAL) -> None:
        self._tracer = tracer
        self._parent = parent
        self._context: Context | None = None
        self._attributes: dict[str, Value] = {}
        self._at_end: Callable[[], Attributes] | None = None
        self._span = tracer.start(name, parent, kind)

    @property
    def trace_id(self) -> str:  # type: ignore[override] # read only, as everybody uses it
        return format_trace_id(self._span.get_span_context().trace_id)

    def _within(self) -> Context:
        """What its children begin in; most spans have none."""
        if self._context is None:
            self._context = set_span_in_context(self._span, self._parent)
        return self._context

    def child(self, name: str) -> Span:
        return _Recorded(self._tracer, name, self._within())

    def set(self, attributes: Attributes) -> None:
        self._attributes.update(attributes)

    def at_end(self, attributes: Callable[[], Attributes]) -> None:
        self._at_end = attributes

    @property
    def headers(self) -> Mapping[str, str]:
        return _headers(self._within())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._at_end is not None:
            self.set(self._at_end())
        if error is not None:
            self._ended_by(first_error(error))
        self._span.set_attributes(self._attributes)
        self._span.end()

    def _ended_by(self, error: BaseException) -> None:
        """By name alone: a message may quote what the client wrote. Who left, and what is no longer wanted, has not failed."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit | Disconnected):
            self._attributes["ponder.cancelled"] = True
            return
        self._attributes["error.type"] = type(error).__qualname__
        if not isinstance(error, InvalidRequest | NotFound):  # those are the client's
            self._span.set_status(StatusCode.ERROR)


class _Passed(Span):
    """Not recorded here; the caller's own trace is passed on as it came."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def headers(self) -> Mapping[str, str]:
        return _headers(self._context)


class _Exporter(SpanExporter):
    """An exporter that says once that it fails, and once that it works again."""

    def __init__(self, url: str) -> None:
        self._url = url
        silence()
        self._reason = Reason()
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_S)
        self._is_failing = False
        self._is_shut = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._reason.text = ""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._is_failing:
            logger.warning("no spans reach %s, those of the meantime are lost: %s", self._url, self._reason.text)
        elif self._is_failing and not failed:
            logger.info("spans reach %s again", self._url)
        self._is_failing = failed
        return result

    def shutdown(self) -> None:
        """Given up by whoever waited too long, it is shut down by the SDK once more."""
        if self._is_shut:
            return
        self._is_shut = True
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._reason.close()


def _parent(trace_context: Mapping[str, str]) -> tuple[Context, bool, bool]:
    """The caller's span, whether there is one, and whether it is recorded; what is malformed is none."""
    short = {name: value for name, value in trace_context.items() if len(value) <= MAX_HEADER_CHARS}
    if not short:
        return Context(), False, False
    context = TraceContextTextMapPropagator().extract(short, Context())
    caller = get_current_span(context).get_span_context()
    return context, caller.is_valid, caller.trace_flags.sampled


def _headers(context: Context) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers, context)
    return headers
