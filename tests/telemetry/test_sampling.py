"""Which requests have spans recorded: by the caller's flag, by the operator's ratio, and with malformed headers."""

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.telemetry.collecting import CALLER, NOT_SAMPLED, SAMPLED, TRACE_ID, ask, logged

pytestmark = pytest.mark.anyio


async def test_a_request_continues_the_trace_of_its_caller(serve, collector) -> None:
    """The caller's trace state is kept too, and the operator's ratio does not matter. The search trace knows the id, for exemplars."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=0) as served:
        reply = (await ask(served, SAMPLED)).json()
        [trace] = served.app.state.pools.first.observers.traces._kept.values()
        assert (trace.id, trace.otel_trace_id) == (reply["ponder"]["trace_id"], TRACE_ID)
        await ask(served, NOT_SAMPLED)
        await ask(served)
        assert [trace.otel_trace_id for trace in served.app.state.pools.first.observers.traces._kept.values()] == [
            TRACE_ID,
            None,
            None,
        ]
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
async def test_malformed_trace_headers_are_ignored(serve, collector, caplog, headers) -> None:
    """The request is answered, and nothing is logged, since clients could fill the log."""
    with caplog.at_level(logging.DEBUG):
        async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
            assert (await ask(served, headers)).status_code == 200
    [request] = collector.named("request")
    assert request.trace_state == ""
    assert (request.trace_id.hex() == TRACE_ID) == (headers.get("traceparent") == SAMPLED["traceparent"])
    assert not logged(caplog)


@given(headers=st.fixed_dictionaries({}, optional={name: st.text(max_size=600) for name in SAMPLED}))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_header_is_too_odd_to_be_read(headers: dict[str, str]) -> None:
    """Any text in the headers gives either a parent or no headers to pass on, and never an error."""
    from app.telemetry.otel import _headers, _parent

    context, has_parent, _ = _parent(headers)
    assert has_parent or not _headers(context)


async def test_callers_cannot_make_the_server_record_too_many_spans(serve, collector) -> None:
    """Above a limit of spans a second only the operator's share is recorded, whatever flags callers set."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=0) as served:
        for _ in range(60):
            await ask(served, SAMPLED, ponder={"strategy": "best_of_n", "n": 16})
    assert 100 <= len(collector.spans) < 60 * 16 / 2


async def test_a_reward_model_receives_the_trace_of_the_caller(serve, collector) -> None:
    """It gets the header whether or not this server records; without a caller's trace and unrecorded, it gets none."""
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
