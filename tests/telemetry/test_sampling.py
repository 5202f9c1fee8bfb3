"""Who is traced: callers that say whether they trace, those that do not, and those that send nonsense."""

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.telemetry.collecting import CALLER, NOT_SAMPLED, SAMPLED, TRACE_ID, ask, heard

pytestmark = pytest.mark.anyio


async def test_a_request_goes_on_its_caller_s_trace(serve, collector) -> None:
    """Its state too, and whatever share is traced of those without a caller's; the id is at hand for exemplars."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=0) as served:
        reply = (await ask(served, SAMPLED)).json()
        [trace] = served.app.state.service.observers.traces._kept.values()
        assert (trace.id, trace.otel_trace_id) == (reply["ponder"]["trace_id"], TRACE_ID)
        await ask(served, NOT_SAMPLED)
        await ask(served)
        assert [trace.otel_trace_id for trace in served.app.state.service.observers.traces._kept.values()] == [
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
    from app.telemetry.otel import _headers, _parent

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
