"""The spans that a collector receives of requests over HTTP."""

import asyncio
import json

import pytest

from tests.telemetry.collecting import BEAM, SECRET, ask, two_step_script, until, values

pytestmark = pytest.mark.anyio


async def test_a_direct_answer_is_a_request_a_strategy_a_wave_and_a_branch(serve, collector) -> None:
    """Each span is a child of the one before it. All have reached the collector when the server has stopped."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        reply = (await ask(served, {"X-Request-Id": "mine"}, ponder={"strategy": "direct"})).json()
    assert set(collector.paths) == {"/v1/traces"}
    assert sorted(span.name for span in collector.spans) == ["branch", "difficulty", "request", "strategy", "wave"]
    assert len({span.trace_id for span in collector.spans}) == 1
    chain = [collector.parents(name) for name in ("branch", "wave", "strategy", "difficulty", "request")]
    assert chain == [{"wave"}, {"strategy"}, {"request"}, {"request"}, {None}]
    attributes = values(collector.named("request")[0].attributes)
    assert attributes["gen_ai.operation.name"] == "chat"
    assert (attributes["gen_ai.request.model"], attributes["ponder.strategy"], attributes["ponder.effort"]) == (
        "scripted",
        "direct",
        "medium",
    )
    assert attributes["ponder.request.id"] == "mine"
    assert attributes["ponder.stop_reason"] == "completed"
    assert attributes["gen_ai.usage.input_tokens"] == reply["usage"]["prompt_tokens"]
    assert attributes["gen_ai.usage.output_tokens"] == reply["usage"]["completion_tokens"]
    assert attributes["ponder.flops.total"] == reply["ponder"]["flops"]["total"]
    [resource] = {json.dumps(values(one.resource.attributes)) for one in collector.resources}
    assert (
        json.loads(resource).items()
        >= {"service.name": "ponder", "service.version": "0.1.0", "ponder.model": "scripted"}.items()
    )


async def test_a_vote_has_a_branch_for_each_candidate(serve, collector) -> None:
    """Branches have the same indexes and tokens as the candidates of the reply."""
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        options = {"strategy": "self_consistency", "n": 6, "weights": "likelihood", "confidence": 1.0}
        account = (await ask(served, ponder=options)).json()["ponder"]
    branches = sorted(
        (values(span.attributes) for span in collector.named("branch")),
        key=lambda attributes: attributes["ponder.branch.index"],
    )
    drawn = [attributes for attributes in branches if "ponder.finish_reason" in attributes]
    assert [attributes["gen_ai.usage.output_tokens"] for attributes in drawn][: len(account["candidates"])] == [
        candidate["tokens"] for candidate in account["candidates"]
    ]
    assert len(drawn) == account["branches"]["drawn"]
    assert collector.parents("branch") == {"wave"}
    assert collector.parents("verifier") == {"strategy"}
    assert len(collector.named("verifier")) == len(account["candidates"])


async def test_a_search_has_a_wave_for_each_step_and_its_verifier(serve, collector) -> None:
    """When the verifier scores with the model, those `score` spans are children of the verifier's span."""
    async with serve(two_step_script, otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        await ask(served, ponder=BEAM)
    assert len(collector.named("wave")) > 2
    chain = [collector.parents(name) for name in ("branch", "wave", "score", "verifier", "strategy", "difficulty", "request")]
    assert chain == [{"wave"}, {"strategy"}, {"verifier"}, {"strategy"}, {"request"}, {"request"}, {None}]
    assert {values(span.attributes)["ponder.verifier"] for span in collector.named("verifier")} == {"p_true"}
    assert "step" in {values(span.attributes)["ponder.finish_reason"] for span in collector.named("branch")}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("options", [{"strategy": "direct"}, BEAM, {"strategy": "best_of_n", "n": 3}])
async def test_spans_hold_nothing_of_prompts_and_answers(serve, collector, options, is_streamed: bool) -> None:
    """They hold nothing of a client's verifier parameters either, also when the request is refused."""
    async with serve(two_step_script, otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        await ask(served, ponder=options, stream=is_streamed)
        await ask(served, ponder={"strategy": "best_of_n", "n": 2, "verifier": {"regex": SECRET}}, stream=is_streamed)
        refused = await ask(served, ponder={"strategy": "best_of_n", "n": 2, "verifier": {"regex": f"({SECRET}"}})
        assert refused.status_code == 400
    assert len(collector.named("request")) == 3
    sent = b"".join(collector.bodies)
    assert b"17 + 25" not in sent
    assert b"xyzzy" not in sent
    assert b"plugh" not in sent


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_request_whose_client_leaves_ends_all_its_spans(serve, collector, is_streamed: bool) -> None:
    """Its spans have the attribute for a cancellation and no error status."""
    async with serve(two_step_script, seconds_per_token=0.05, otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
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


async def test_spans_of_a_failure_hold_the_name_of_the_error(serve, collector) -> None:
    """Every span that the error passed through has its name. A refused request is not a failure of the server."""
    async with serve(two_step_script, seconds_per_token=0.05, otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        assert (await ask(served, ponder={"strategy": "beam_search", "n": 3, "expand": 2})).status_code == 400
        running = asyncio.create_task(ask(served, ponder=BEAM))
        await until(lambda: served.engine.running)
        served.engine.die()
        assert (await running).status_code >= 500
    refused, failed = sorted(collector.named("request"), key=lambda span: span.start_time_unix_nano)
    assert (values(refused.attributes)["error.type"], refused.status.code) == ("InvalidRequest", 0)
    for span in (failed, *collector.named("strategy"), *collector.named("wave")):
        assert (values(span.attributes)["error.type"], span.status.code, span.status.message) == ("EngineDead", 2, "")
