"""Spans by OpenTelemetry's SDK, sent to a collector over OTLP/HTTP. This is the only module that imports `opentelemetry`.

A thread of the SDK sends the spans in batches. The server must not suffer from a bad collector: spans that do not fit into the queue
are dropped, a collector that does not answer is logged once, and the end of the server waits for it `FLUSH_S` seconds at most.

No global provider is set and no context variables are used, so that two servers can live in one process. One change to the process
stays: OpenTelemetry's loggers are silenced.
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
from app.telemetry.otel_logging import FailureReason, silence
from app.telemetry.spans import NO_SPAN, Attributes, Span, Tracer, Value

logger = logging.getLogger("ponder.tracing")

MAX_SPANS = 4096
"""The most spans that wait to be sent; more are dropped."""

EXPORT_S = 5.0
"""Seconds that the collector may take for one batch, retries included."""

FLUSH_S = 3.0
"""Seconds that the end of the server waits for the last batches."""

FOLLOWED_SPANS_PER_S = 100
"""A caller's `sampled` flag is followed up to this many spans a second.

Clients with instrumentation set the flag always. One span costs 70 to 130 microseconds, so this many take about one percent of a core.
"""

MAX_HEADER_CHARS = 512
"""Longer trace headers are ignored. W3C's Trace Context asks for at least this length of `tracestate` to be passed on."""


class OtelTracer(Tracer):
    """Records the spans of some requests and sends them to one collector.

    Args:
        endpoint: the collector's base URL. `/v1/traces` is appended to it, unless it ends so already.
        ratio: share of requests that are recorded, 0 to 1, of those whose callers do not say whether they record.
        model: name of the served model.
        version: of this server.

    """

    def __init__(self, endpoint: str, ratio: float, *, model: str, version: str) -> None:
        resource = {"service.name": "ponder", "service.version": version, "service.instance.id": str(uuid.uuid4())}
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # `request` decides what is recorded, before the SDK is called
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
        """Start the span of one request.

        It is recorded when the caller records its own, within `FOLLOWED_SPANS_PER_S`. When the caller does not say, chance decides.
        """
        is_chosen = random.random() < self._ratio  # noqa: S311 - chance, not a secret
        if not trace_context and not is_chosen:  # nearly all requests: this is the fast path
            return NO_SPAN
        parent, has_parent, is_sampled = _parent(trace_context)
        if has_parent and not is_sampled:
            return _PassedOnSpan(parent)
        if is_chosen or (has_parent and self._has_room()):
            return _RecordedSpan(self, "request", parent, SpanKind.SERVER)
        return _PassedOnSpan(parent) if has_parent else NO_SPAN

    def _has_room(self) -> bool:
        """Whether a caller's flag may be followed now: a token bucket that fills by `FOLLOWED_SPANS_PER_S` a second."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._counted_at) * FOLLOWED_SPANS_PER_S, FOLLOWED_SPANS_PER_S)
        self._counted_at = now
        return self._left > 0

    def start(self, name: str, parent: Context, kind: SpanKind) -> SdkSpan:
        """Start a span of the SDK."""
        self._left -= 1
        return self._spans.start_span(name, parent, kind)

    async def close(self) -> None:
        """Send the last spans, in `FLUSH_S` seconds at most.

        The SDK's own shutdown may block for half a minute, so it runs in a thread that is left behind when the time is over.
        """
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is closed, so nothing waits for this any more
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=end, name="tracing-flush", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_S):
                await done.wait()
        except TimeoutError:
            logger.warning("the last spans did not reach the collector within %g s", FLUSH_S)
            self._exporter.shutdown()


class _RecordedSpan(Span):
    """A span of the SDK. Attributes are collected here and handed to the SDK once, at the end, which is cheaper."""

    __slots__ = ("_attributes", "_attributes_at_end", "_context", "_parent", "_span", "_tracer")
    is_recording = True

    def __init__(self, tracer: OtelTracer, name: str, parent: Context, kind: SpanKind = SpanKind.INTERNAL) -> None:
        self._tracer = tracer
        self._parent = parent
        self._context: Context | None = None
        self._attributes: dict[str, Value] = {}
        self._attributes_at_end: Callable[[], Attributes] | None = None
        self._span = tracer.start(name, parent, kind)

    @property
    def trace_id(self) -> str:  # type: ignore[override] # only read, never assigned
        return format_trace_id(self._span.get_span_context().trace_id)

    def _within(self) -> Context:
        """Return the context that children start in. It is made when it is first needed, since most spans have no children."""
        if self._context is None:
            self._context = set_span_in_context(self._span, self._parent)
        return self._context

    def child(self, name: str) -> Span:
        return _RecordedSpan(self._tracer, name, self._within())

    def set(self, attributes: Attributes) -> None:
        self._attributes.update(attributes)

    def set_at_end(self, attributes: Callable[[], Attributes]) -> None:
        self._attributes_at_end = attributes

    @property
    def headers(self) -> Mapping[str, str]:
        return _headers(self._within())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._attributes_at_end is not None:
            self.set(self._attributes_at_end())
        if error is not None:
            self._ended_by(first_error(error))
        self._span.set_attributes(self._attributes)
        self._span.end()

    def _ended_by(self, error: BaseException) -> None:
        """Set the attributes for the error that ended the span.

        Only the name of the error is sent, since its message may quote the client. A branch that is cancelled because the search no
        longer needs it, and a client that disconnects, are not failures.
        """
        if isinstance(error, asyncio.CancelledError | GeneratorExit | Disconnected):
            self._attributes["ponder.cancelled"] = True
            return
        self._attributes["error.type"] = type(error).__qualname__
        if not isinstance(error, InvalidRequest | NotFound):  # these errors are the client's, not the server's
            self._span.set_status(StatusCode.ERROR)


class _PassedOnSpan(Span):
    """A span that is not recorded here, but whose caller has a trace: its headers are passed on unchanged."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def headers(self) -> Mapping[str, str]:
        return _headers(self._context)


class _Exporter(SpanExporter):
    """An exporter that logs once when it begins to fail, and once when it works again."""

    def __init__(self, url: str) -> None:
        self._url = url
        silence()
        self._reason = FailureReason()
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_S)
        self._is_failing = False
        self._is_shut = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._reason.text = ""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._is_failing:
            logger.warning("no spans reach %s, and they are lost until it answers: %s", self._url, self._reason.text)
        elif self._is_failing and not failed:
            logger.info("spans reach %s again", self._url)
        self._is_failing = failed
        return result

    def shutdown(self) -> None:
        """Shut down, once: after `OtelTracer.close` gave up waiting, the SDK's thread calls this a second time."""
        if self._is_shut:
            return
        self._is_shut = True
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._reason.close()


def _parent(trace_context: Mapping[str, str]) -> tuple[Context, bool, bool]:
    """Return the caller's span as a context, whether there is one, and whether it is recorded. Malformed headers are no span."""
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
