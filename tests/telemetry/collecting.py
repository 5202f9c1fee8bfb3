"""An OpenTelemetry collector on this machine, and requests whose spans are sent to it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.telemetry.otel_logging import SILENT

TRACE_ID, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01", "tracestate": "vendor=opaque"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE_ID}-{CALLER}-00"}
SECRET = "xyzzy-in-the-prompt"
BEAM = {"strategy": "beam_search", "n": 4, "expand": 2, "separator": ";", "verifier": "p_true"}


def two_step_script(text: str, serial: int) -> str:
    """Answer with two steps and then a number, continuing where the prompt ends."""
    before = text.rpartition("assistant:")[2]
    rest = ["plugh first;", " plugh second;", f" so {[42, 41, 42][serial % 3]}"]
    return "".join(rest[before.count(";") :])


class Collector:
    """Receives spans over OTLP/HTTP and keeps them. `status` is the HTTP status of its replies, `pause` the seconds before each."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.traceparents: list[str | None] = []
        self.status = 200
        self.pause = 0.0
        self.url = ""

    @property
    def resources(self) -> list[Any]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return [one for body in self.bodies for one in ExportTraceServiceRequest.FromString(body).resource_spans]

    @property
    def spans(self) -> list[Any]:
        return [span for resource in self.resources for scope in resource.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def parents(self, name: str) -> set[str | None]:
        """Return the names of the parents of all spans of that name; None for a parent on another server."""
        names = {span.span_id: span.name for span in self.spans}
        return {names.get(span.parent_span_id) for span in self.named(name)}


def values(attributes: Any) -> dict[str, Any]:
    """Return the attributes of a span as a dictionary."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector for the length of the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.paths.append(self.path)
            collector.traceparents.append(self.headers["traceparent"])
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(collector.pause)
            if collector.status == 200 and self.path == "/v1/traces":
                collector.bodies.append(body)
            self.send_response(collector.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def ask(served, headers: dict[str, str] | None = None, **fields: Any):
    """Send a chat request whose prompt holds `SECRET`."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": f"What is 17 + 25? {SECRET}"}], **fields}
    return await served.client.post("/v1/chat/completions", json=body, headers=headers)


def logged(caplog) -> list[str]:
    """Return the lines of the log about tracing, without those of silenced loggers."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith(("opentelemetry", "ponder.tracing")) and not record.name.startswith(SILENT)
    ]


async def until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    while not holds():  # noqa: ASYNC110 - what is waited for offers no event
        await asyncio.sleep(0.01)
