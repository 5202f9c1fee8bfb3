"""A collector on this machine, and requests for it to hear of."""

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


def story(text: str, serial: int) -> str:
    """Two steps, then an answer."""
    said = text.rpartition("assistant:")[2]
    rest = ["plugh first;", " plugh second;", f" so {[42, 41, 42][serial % 3]}"]
    return "".join(rest[said.count(";") :])


class Collector:
    """Takes spans over OTLP/HTTP, as a collector does. `status`: of its answers; `pause`: seconds before each."""

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
        """The names of the parents of all spans of that name; None for one that is elsewhere."""
        names = {span.span_id: span.name for span in self.spans}
        return {names.get(span.parent_span_id) for span in self.named(name)}


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
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
    body = {"model": "scripted", "messages": [{"role": "user", "content": f"What is 17 + 25? {SECRET}"}], **fields}
    return await served.client.post("/v1/chat/completions", json=body, headers=headers)


def heard(caplog) -> list[str]:
    """What the log says of traces, by the loggers that pass it on."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith(("opentelemetry", "ponder.tracing")) and not record.name.startswith(SILENT)
    ]


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for offers no event
        await asyncio.sleep(0.01)
