"""Text completions, models, readiness, metrics and request ids over the scripted engine."""

import json
import re
from dataclasses import replace

import pytest

from app.engine.scripted import SMALL, ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings

pytestmark = pytest.mark.anyio


async def complete(served, **fields):
    return await served.client.post("/v1/completions", json={"model": "scripted", "prompt": "Once upon", **fields})


async def test_text_completions_of_one_prompt(serve) -> None:
    """`echo` puts the prompt before the text, with its log-probabilities."""
    async with serve([" a time"]) as served:
        plain = (await complete(served)).json()
        echoed = (await complete(served, echo=True, logprobs=1)).json()
    assert plain["object"] == "text_completion"
    assert plain["choices"][0]["text"] == " a time"
    assert echoed["choices"][0]["text"] == "Once upon a time"
    assert echoed["choices"][0]["logprobs"]["text_offset"] == [0, 4, 9, 11]
    assert echoed["choices"][0]["logprobs"]["tokens"] == ["Once", " upon", " a", " time"]


async def test_text_completions_of_several_prompts(serve) -> None:
    """Choices are numbered over all prompts. `usage` and the `ponder` object count all prompts together."""
    async with serve([" x", " y"]) as served:
        reply = (await complete(served, prompt=["A", "B C"], n=2)).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in reply["choices"]] == [" x", " y", " x", " y"]
    assert reply["usage"]["prompt_tokens"] == 3
    assert reply["usage"]["completion_tokens"] == 4
    assert len(reply["ponder"]["candidates"]) == 4


async def test_text_completions_as_a_stream(serve) -> None:
    """Each choice gets its text as it is generated, and an echoed prompt with the first chunk."""
    async with serve([" a time"]) as served:
        text = (await complete(served, prompt=["Once upon", "Twice upon"], stream=True, echo=True)).text
    chunks = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    texts = {0: "", 1: ""}
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == {0: "Once upon a time", 1: "Twice upon a time"}


async def test_text_completions_vote_as_well(serve) -> None:
    """A strategy in the body works on a text prompt. The stream has no field for progress."""
    options = {"strategy": "self_consistency", "answer": "math", "n": 4}
    async with serve([" 42", " 41", " 42", " 42"]) as served:
        whole = (await complete(served, ponder=options)).json()
        stream = (await complete(served, ponder=options, stream=True)).text
    assert whole["choices"][0]["text"] == " 42"
    assert "Candidate" not in stream
    assert '"text":" 42"' in stream


async def test_token_ids_are_a_prompt(serve) -> None:
    """Ids that the engine gave out are accepted, and unknown ones are refused."""
    async with serve(["ok"]) as served:
        ids = list(served.engine.encode("Once upon"))
        known = await complete(served, prompt=ids)
        unknown = await complete(served, prompt=[10**6])
    assert known.json()["usage"]["prompt_tokens"] == 2
    assert unknown.status_code == 400


async def test_models_and_their_aliases(serve) -> None:
    """Each name in the list can also be looked up alone."""
    async with serve() as served:
        listed = (await served.client.get("/v1/models")).json()["data"]
        alias = await served.client.get("/v1/models/scripted@best_of_n")
        missing = await served.client.get("/v1/models/gpt-9")
        odd = await served.client.get("/v1/models/some/other/model")
    assert [entry["id"] for entry in listed][:4] == ["scripted", "auto", "scripted@auto", "scripted@direct"]
    assert alias.json()["parent"] == "scripted"
    assert missing.status_code == odd.status_code == 404


async def test_health_follows_the_engine_and_readiness_the_process(serve) -> None:
    """A dead engine fails both. Draining fails readiness only, so that the process can finish its requests."""
    reasons: list[str] = []
    async with serve() as served:
        assert (await served.client.get("/ready")).json() == {"status": "ready"}
        served.app.state.is_draining = lambda: True
        assert (await served.client.get("/ready")).status_code == 503
        assert (await served.client.get("/health")).status_code == 200
        served.app.state.is_draining = lambda: False
        served.engine.die()
        assert (await served.client.get("/ready")).status_code == 503
        assert (await served.client.get("/health")).status_code == 503
        dead = await served.chat()
    assert dead.status_code == 503
    assert dead.json()["error"]["code"] == "engine_dead"
    assert reasons == []


async def test_the_death_of_the_engine_is_reported_once(tmp_path) -> None:
    """The callback runs once, so that the process can end."""
    import asyncio

    reasons: list[str] = []
    engine = ScriptedEngine(cycle(["x"]))
    app = create_app(Settings(adapter_dir=tmp_path), engine, on_engine_death=reasons.append)
    async with app.router.lifespan_context(app):
        engine.die()
        await asyncio.sleep(0.5)
    assert reasons == ["killed by its script"]


async def test_the_engine_dying_in_a_stream_ends_it_with_an_error(serve) -> None:
    """The status was sent before, so the error is an event, and the stream still ends with `[DONE]`."""
    import asyncio

    async with serve(["a b c d e f g h"], seconds_per_token=0.02) as served:
        asked = asyncio.create_task(served.chat("Hi", stream=True))
        await asyncio.sleep(0.06)
        served.engine.die()
        text = (await asked).text
    assert '"code":"engine_dead"' in text
    assert text.endswith("data: [DONE]\n\n")


async def test_metrics_tell_how_streams_ended(serve) -> None:
    """A disconnected client and a dead engine are counted as such, though the status was 200."""
    import asyncio

    async def outcomes(served) -> set[str]:
        page = (await served.client.get("/metrics")).text
        return set(re.findall(r'^ponder_requests_total\{.*outcome="(\w+)".* [1-9]', page, re.MULTILINE))

    async def leave(served) -> None:
        """Speak ASGI by hand: httpx's in-process transport has no connection to lose."""
        body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        messages = [{"type": "http.request", "body": json.dumps(body).encode()}]

        async def receive():
            if messages:
                return messages.pop()
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

        async def send(_message) -> None:
            pass

        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "http_version": "1.1",
            "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip
        await served.app(scope, receive, send)

    async with serve(["a b c d e f g h"], seconds_per_token=0.02) as served:
        await leave(served)
        assert await outcomes(served) == {"cancelled"}
        assert not served.engine.live
        assert served.app.state.pools.first.admission.num_admitted == 0
        asked = asyncio.create_task(served.chat("Hi", stream=True))
        await asyncio.sleep(0.06)
        served.engine.die()
        await asked
        assert await outcomes(served) == {"cancelled", "engine_dead"}


async def test_metrics_count_what_the_replies_said(serve) -> None:
    """Tokens and FLOPs are counted by strategy, refusals by reason. No label has a value that a client can invent."""
    async with serve(max_branches=4, max_waiting_branches=1) as served:
        told = [(await served.chat(ponder={"strategy": "direct"})).json()["ponder"] for _ in range(3)]
        assert (await served.chat("Hi", ponder={"strategy": "best_of_n", "n": 6})).status_code == 200
        page = (await served.client.get("/metrics")).text
    common = 'adapter="",{}model="scripted",strategy="direct"'

    def value(name: str, kind: str) -> float:
        wanted = f"{name}{{" + common.format(f'kind="{kind}",') + "}"
        return float(next(line for line in page.splitlines() if line.startswith(wanted)).rsplit(" ", 1)[1])

    assert value("ponder_tokens_total", "decoded") == sum(one["tokens"]["decoded"] for one in told)
    assert value("ponder_flops_total", "prefill") == sum(one["flops"]["prefill"] for one in told)
    assert 'ponder_requests_total{adapter="",model="scripted",outcome="completed",strategy="best_of_n"} 1.0' in page
    assert 'ponder_branches_running{model="scripted"} 0.0' in page


@pytest.mark.parametrize("is_estimate", [False, True])
async def test_estimated_flops_are_marked(serve, monkeypatch, is_estimate: bool) -> None:
    """In replies and in the metrics, for a model whose architecture is not among those that are counted."""
    monkeypatch.setattr("app.engine.scripted.SMALL", replace(SMALL, is_estimate=is_estimate))
    async with serve() as served:
        reply = (await served.chat(ponder={"strategy": "direct"})).json()
        page = (await served.client.get("/metrics")).text
    assert reply["ponder"]["flops"]["is_estimate"] is is_estimate
    assert f'ponder_flops_is_estimate{{model="scripted"}} {float(is_estimate)}' in page


@pytest.mark.parametrize(("given", "is_kept"), [("abc-123", True), ("x" * 65, False), ("a b", False), ("<script>", False)])
async def test_a_harmless_request_id_is_kept(serve, given: str, is_kept: bool) -> None:
    """Any other id is replaced. The reply carries the id in its header and as its trace id."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
    async with serve() as served:
        response = await served.client.post("/v1/chat/completions", json=body, headers={"X-Request-Id": given})
    request_id = response.headers["x-request-id"]
    assert (request_id == given) == is_kept
    assert response.json()["id"] == f"chatcmpl-{request_id}"
    assert response.json()["ponder"]["trace_id"] == request_id


async def test_two_requests_with_one_id_do_not_share_branches(serve) -> None:
    """A caller's id is not unique. The end of one request must not end the branches of the other."""
    import asyncio

    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"X-Request-Id": "same"}
    async with serve(["a b c d e f"], seconds_per_token=0.02) as served:
        short = {**body, "ponder": {"budget": {"seconds": 0.03}}}
        cut, whole = await asyncio.gather(
            *(served.client.post("/v1/chat/completions", json=one, headers=headers) for one in (short, body))
        )
    assert cut.json()["ponder"]["stop_reason"] == "budget_seconds"
    assert whole.json()["choices"][0]["message"]["content"] == "a b c d e f"


async def test_budgets_and_effort_reach_the_strategy(serve) -> None:
    """The budget is in the body, and OpenAI's `reasoning_effort` chooses among plans."""
    async with serve(["one two three four five six"]) as served:
        cut = (await served.chat("Hi", ponder={"budget": {"tokens": 4}})).json()
        low = (await served.chat(reasoning_effort="low")).json()["ponder"]
        high = (await served.chat(reasoning_effort="high")).json()["ponder"]
        greedy = (await served.chat(temperature=0)).json()["ponder"]
    assert cut["ponder"]["stop_reason"] == "budget_tokens"
    assert cut["choices"][0]["message"]["content"] == "one two three four"
    assert greedy["strategy"] == "direct"
    assert ("low effort" in low["plan"]["why"], "high effort" in high["plan"]["why"]) == (True, True)
