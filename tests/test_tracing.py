"""Traces for OpenTelemetry: what a collector on this machine receives from a server that is asked over HTTP."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app import settings as settings_module
from app.settings import Settings

pytestmark = pytest.mark.anyio

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


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


async def ask(served, headers: dict[str, str] | None = None, **fields: Any):
    body = {"model": "scripted", "messages": [{"role": "user", "content": f"What is 17 + 25? {SECRET}"}], **fields}
    return await served.client.post("/v1/chat/completions", json=body, headers=headers)


def heard(caplog) -> list[str]:
    """What the log says of traces; pytest hears loggers too that pass nothing on."""
    from app.tracing.otel import QUIET

    mute = [name for name in QUIET if not logging.getLogger(name).propagate]
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith(("opentelemetry", "ponder.tracing")) and not record.name.startswith(tuple(mute))
    ]


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for offers no event
        await asyncio.sleep(0.01)


async def test_a_direct_answer_is_a_request_a_strategy_a_wave_and_a_branch(serve, collector) -> None:
    """Each within the one before it, with its difficulty beside; all has reached the collector when the server has stopped."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        reply = (await ask(served, {"X-Request-Id": "mine"}, ponder={"strategy": "direct"})).json()
    assert set(collector.paths) == {"/v1/traces"}
    assert sorted(span.name for span in collector.spans) == ["branch", "difficulty", "request", "strategy", "wave"]
    assert len({span.trace_id for span in collector.spans}) == 1
    chain = [collector.parents(name) for name in ("branch", "wave", "strategy", "difficulty", "request")]
    assert chain == [{"wave"}, {"strategy"}, {"request"}, {"request"}, {None}]
    told = values(collector.named("request")[0].attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert (told["gen_ai.request.model"], told["ponder.strategy"], told["ponder.effort"]) == ("scripted", "direct", "medium")
    assert told["ponder.request.id"] == "mine"
    assert told["ponder.stop_reason"] == "completed"
    assert told["gen_ai.usage.input_tokens"] == reply["usage"]["prompt_tokens"]
    assert told["gen_ai.usage.output_tokens"] == reply["usage"]["completion_tokens"]
    assert told["ponder.flops.total"] == reply["ponder"]["flops"]["total"]
    [resource] = {json.dumps(values(one.resource.attributes)) for one in collector.resources}
    assert (
        json.loads(resource).items()
        >= {"service.name": "ponder", "service.version": "0.1.0", "ponder.model": "scripted"}.items()
    )


async def test_a_vote_has_a_branch_for_each_candidate(serve, collector) -> None:
    """Numbered as the reply's candidates, and with their tokens."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        options = {"strategy": "self_consistency", "n": 6, "weights": "likelihood", "confidence": 1.0}
        account = (await ask(served, ponder=options)).json()["ponder"]
    branches = sorted(
        (values(span.attributes) for span in collector.named("branch")), key=lambda told: told["ponder.branch.index"]
    )
    drawn = [told for told in branches if "ponder.finish_reason" in told]
    assert [told["gen_ai.usage.output_tokens"] for told in drawn][: len(account["candidates"])] == [
        candidate["tokens"] for candidate in account["candidates"]
    ]
    assert len(drawn) == account["branches"]["drawn"]
    assert collector.parents("branch") == {"wave"}
    assert collector.parents("verifier") == {"strategy"}
    assert len(collector.named("verifier")) == len(account["candidates"])


async def test_a_search_has_a_wave_for_each_step_and_its_verifier(serve, collector) -> None:
    """What the verifier asks of the model is within the verifier's span."""
    async with serve(story, otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        await ask(served, ponder=BEAM)
    assert len(collector.named("wave")) > 2
    chain = [collector.parents(name) for name in ("branch", "wave", "verdict", "verifier", "strategy", "difficulty", "request")]
    assert chain == [{"wave"}, {"strategy"}, {"verifier"}, {"strategy"}, {"request"}, {"request"}, {None}]
    assert {values(span.attributes)["ponder.verifier"] for span in collector.named("verifier")} == {"p_true"}
    assert "step" in {values(span.attributes)["ponder.finish_reason"] for span in collector.named("branch")}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("options", [{"strategy": "direct"}, BEAM, {"strategy": "best_of_n", "n": 3}])
async def test_nothing_of_prompts_and_answers_is_told(serve, collector, options, is_streamed: bool) -> None:
    """Nor of what a client writes into a rule, nor when its request is refused."""
    async with serve(story, otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        await ask(served, ponder=options, stream=is_streamed)
        await ask(served, ponder={"strategy": "best_of_n", "n": 2, "verifier": {"regex": SECRET}}, stream=is_streamed)
        refused = await ask(served, ponder={"strategy": "best_of_n", "n": 2, "verifier": {"regex": f"({SECRET}"}})
        assert refused.status_code == 400
    assert len(collector.named("request")) == 3
    said = b"".join(collector.bodies)
    assert b"17 + 25" not in said
    assert b"xyzzy" not in said
    assert b"plugh" not in said


async def test_a_request_goes_on_its_caller_s_trace(serve, collector) -> None:
    """Its state too, and whatever share is traced of those without a caller's; the id is at hand for exemplars."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=0) as served:
        reply = (await ask(served, SAMPLED)).json()
        [trace] = served.app.state.service.traces._kept.values()
        assert (trace.id, trace.otel_trace_id) == (reply["ponder"]["trace_id"], TRACE_ID)
        await ask(served, NOT_SAMPLED)
        await ask(served)
        assert [trace.otel_trace_id for trace in served.app.state.service.traces._kept.values()] == [TRACE_ID, None, None]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE_ID}
    [request] = collector.named("request")
    assert request.parent_span_id.hex() == CALLER
    assert {span.trace_state for span in collector.spans} == {"vendor=opaque"}


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "nonsense"},
        {"traceparent": f"00-{'0' * 32}-{CALLER}-01"},
        {"traceparent": f"ff-{TRACE_ID}-{CALLER}-01"},
        {"traceparent": f"00-{TRACE_ID}-{CALLER}-01" + "x" * 9000},
        {"tracestate": "a=b"},
        {**SAMPLED, "tracestate": "=" * 9000},
        {**SAMPLED, "tracestate": "no state"},
    ],
)
async def test_a_malformed_trace_is_ignored(serve, collector, caplog, headers) -> None:
    """The request is answered, and the log says nothing: it would be the client's to fill."""
    with caplog.at_level(logging.DEBUG):
        async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
            assert (await ask(served, headers)).status_code == 200
    [request] = collector.named("request")
    assert request.trace_state == ""
    assert (request.trace_id.hex() == TRACE_ID) == (headers.get("traceparent") == SAMPLED["traceparent"])
    assert not heard(caplog)


@given(headers=st.fixed_dictionaries({}, optional={name: st.text(max_size=600) for name in SAMPLED}))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_header_is_too_odd_to_be_read(headers: dict[str, str]) -> None:
    """Whatever it holds, a request has a span or none."""
    from app.tracing.otel import _headers, _parent

    context, says, _ = _parent(headers)
    assert says or not _headers(context)


async def test_followed_callers_cannot_make_tracing_dear(serve, collector) -> None:
    """Beyond so many spans a second only the operator's share is recorded, whatever flags callers set."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=0) as served:
        for _ in range(60):
            await ask(served, SAMPLED, ponder={"strategy": "best_of_n", "n": 16})
    assert 100 <= len(collector.spans) < 60 * 16 / 2


async def test_a_reward_model_elsewhere_is_asked_within_the_trace(serve, collector) -> None:
    """By the header, whether or not this server records; without a caller's trace and unrecorded, it gets none."""
    for ratio, headers in ((1, SAMPLED), (0, NOT_SAMPLED), (0, None)):
        async with serve(
            otlp_endpoint=collector.url,
            trace_sample_ratio=ratio,
            reward_models={"judge": {"url": collector.url, "route": "classify"}},
        ) as served:
            await ask(served, headers, ponder={"strategy": "best_of_n", "n": 2, "verifier": {"reward_model": "judge"}})
    recorded, passed, none = [
        head for path, head in zip(collector.paths, collector.traceparents, strict=True) if path == "/classify"
    ]
    [verifier] = collector.named("verifier")
    assert recorded.split("-")[1:3] == [TRACE_ID, verifier.span_id.hex()]
    assert passed == NOT_SAMPLED["traceparent"]
    assert none is None


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_request_whose_client_leaves_ends_all_its_spans(serve, collector, is_streamed: bool) -> None:
    """They say that it was cancelled, not that something failed."""
    async with serve(story, seconds_per_token=0.05, otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        running = asyncio.create_task(ask(served, ponder=BEAM, stream=is_streamed))
        await until(lambda: served.engine.running)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not served.engine.running
    assert {span.name for span in collector.spans} >= {"request", "difficulty", "strategy", "wave", "branch"}
    assert None not in collector.parents("branch") | collector.parents("wave") | collector.parents("strategy")
    [request] = collector.named("request")
    assert values(request.attributes)["ponder.cancelled"] is True
    assert {span.status.code for span in collector.spans} == {0}


async def test_what_fails_says_so_by_the_name_of_its_error(serve, collector) -> None:
    """On each span that it went through; a refusal is the client's and no failure of the server's."""
    async with serve(story, seconds_per_token=0.05, otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        assert (await ask(served, ponder={"strategy": "beam_search", "n": 3, "expand": 2})).status_code == 400
        running = asyncio.create_task(ask(served, ponder=BEAM))
        await until(lambda: served.engine.running)
        served.engine.die()
        assert (await running).status_code >= 500
    refused, failed = sorted(collector.named("request"), key=lambda span: span.start_time_unix_nano)
    assert (values(refused.attributes)["error.type"], refused.status.code) == ("InvalidRequest", 0)
    for span in (failed, *collector.named("strategy"), *collector.named("wave")):
        assert (values(span.attributes)["error.type"], span.status.code, span.status.message) == ("EngineDead", 2, "")


async def test_a_failing_collector_is_told_of_once_and_disturbs_nobody(serve, collector, caplog, monkeypatch) -> None:
    """Nor does it hold up the end."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector.status = 401
    with caplog.at_level(logging.INFO):
        async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
            for _ in range(5):
                assert (await ask(served)).status_code == 200
                await asyncio.sleep(0.1)
            await until(lambda: len(collector.paths) >= 3)
            collector.status = 200
            while not collector.bodies:
                await ask(served)
                await asyncio.sleep(0.05)
    lines = heard(caplog)
    assert len(lines) == 2
    assert "401" in lines[0]
    assert lines[1].endswith("again")


async def test_a_collector_that_hangs_holds_up_the_end_for_moments_only(serve, collector, monkeypatch) -> None:
    """Its last spans are given up."""
    from app.tracing import otel

    monkeypatch.setattr(otel, "FLUSH_S", 0.3)
    collector.pause = 3.0
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        await ask(served)
        start = time.monotonic()
    assert time.monotonic() - start < 2.5


def test_a_server_without_a_collector_imports_nothing_of_it() -> None:
    """With the scripted engine; vLLM has its own reasons to."""
    script = """
import asyncio, sys, tempfile
from pathlib import Path
from app.engine.scripted import ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings
here = Path(tempfile.mkdtemp())
app = create_app(Settings(adapter_dir=here, policy_dir=here, shipped_adapters=False), ScriptedEngine(cycle(["42"])))
async def main():
    async with app.router.lifespan_context(app):
        print([name for name in sys.modules if name.startswith("opentelemetry")])
asyncio.run(main())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout == "[]\n", run.stderr


def test_a_collector_without_the_extra_stops_the_start_in_one_line(monkeypatch) -> None:
    """And says what is to be installed."""
    monkeypatch.setattr(settings_module, "find_spec", lambda _name: None)
    with pytest.raises(ValidationError, match=r"pip install 'ponder\[trace\]'"):
        Settings(otlp_endpoint="http://127.0.0.1:4318")


@pytest.mark.parametrize(
    "url", ["collector:4318", "ftp://collector", "http://user:password@collector", "http://collector?key=1"]
)
def test_a_collector_is_a_plain_url(url: str) -> None:
    """Secrets do not belong into it."""
    with pytest.raises(ValidationError):
        Settings(otlp_endpoint=url)
