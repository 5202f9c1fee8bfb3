"""How requests end on the real engine: disconnects, deadlines, budgets, seeds that split, and the engine's own death."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time

import httpx
import pytest

from tests.server import ended

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

MODEL = "smollm2-135m"


def story(**fields):
    """A request that would run for a long time: nothing ends it but its limit."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell a very long story."}],
        "max_tokens": 4000,
        "ignore_eos": True,
        **fields,
    }


async def running(http: httpx.AsyncClient) -> int:
    """What vLLM itself says it runs or holds."""
    page = (await http.get("/metrics")).text
    gauges = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)", page, re.MULTILINE)
    assert len(gauges) >= 2
    return int(sum(float(gauge) for gauge in gauges))


async def until(http: httpx.AsyncClient, is_wanted, within: float) -> float:
    """Seconds until the engine's gauge is as wanted."""
    start = time.monotonic()
    while not is_wanted(await running(http)):
        assert time.monotonic() - start < within, f"still {await running(http)} in the engine"
        await asyncio.sleep(0.02)
    return time.monotonic() - start


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("strategy", ["direct", "best_of_n", "self_consistency"])
async def test_a_disconnect_ends_every_branch_within_a_second(server, http, strategy: str, is_streamed: bool) -> None:
    """The client goes away in the middle: the engine's own gauge is at zero soon after."""
    await until(http, lambda number: number == 0, within=10)
    width = 1 if strategy == "direct" else 8
    options = (
        {"strategy": strategy}
        if strategy == "direct"
        else {
            "strategy": strategy,
            "n": width,
        }
    )
    if strategy == "self_consistency":
        options["answer"] = "text"
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as leaving:
        asked = asyncio.create_task(leaving.post("/v1/chat/completions", json=story(stream=is_streamed, ponder=options)))
        await until(http, lambda number: number == width, within=30)
        asked.cancel()
        await asyncio.wait([asked])
    # One engine step may be under way when the abort arrives, and the gauge is written at the end of steps.
    assert await until(http, lambda number: number == 0, within=5) < 1.0
    after = await http.post("/v1/chat/completions", json=story(max_tokens=2))
    assert after.status_code == 200


@pytest.mark.parametrize("strategy", ["direct", "best_of_n"])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_deadline_returns_what_there_is(http, strategy: str, is_streamed: bool) -> None:
    """Time runs out: the best so far comes back in time, says so, and nothing runs on."""
    start = time.monotonic()
    ponder = {"strategy": strategy, "budget": {"seconds": 1.0}}
    response = await http.post("/v1/chat/completions", json=story(stream=is_streamed, ponder=ponder))
    elapsed = time.monotonic() - start
    if is_streamed:
        chunks = [json.loads(line[6:]) for line in response.text.split("\n\n") if line.startswith("data: {")]
        account = chunks[-1]["ponder"]
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        finish = chunks[-1]["choices"][0]["finish_reason"]
    else:
        reply = response.json()
        account, text = reply["ponder"], reply["choices"][0]["message"]["content"]
        finish = reply["choices"][0]["finish_reason"]
    assert account["stop_reason"] == "budget_seconds"
    assert finish == "length"
    assert text
    assert elapsed < 2.5
    await until(http, lambda number: number == 0, within=1)


@pytest.mark.parametrize("strategy", ["direct", "best_of_n", "self_consistency"])
async def test_a_token_budget_is_kept_to_the_token(http, strategy: str) -> None:
    """All branches together generate no more than the budget, by the engine's own count too."""

    def generated(page: str) -> float:
        return sum(map(float, re.findall(r"^vllm:generation_tokens_total\{[^}]*\} (\S+)", page, re.MULTILINE)))

    before = generated((await http.get("/metrics")).text)
    options = {"strategy": strategy, "budget": {"tokens": 50}}
    if strategy != "direct":
        options |= {"n": 4, "answer": "text"}
    reply = (await http.post("/v1/chat/completions", json=story(ponder=options))).json()
    spent = generated((await http.get("/metrics")).text) - before
    assert spent == reply["usage"]["completion_tokens"] == 50
    assert reply["ponder"]["stop_reason"] == "budget_tokens"


async def test_a_flops_budget_is_kept(http) -> None:
    """FLOPs are limited as tokens are."""
    options = {"strategy": "best_of_n", "n": 4, "budget": {"flops": 2e10}}
    reply = (await http.post("/v1/chat/completions", json=story(ponder=options))).json()
    assert 0 < reply["ponder"]["flops"]["total"] <= 2e10
    assert reply["ponder"]["stop_reason"] == "budget_flops"


async def test_seeds_survive_split_prefills(http) -> None:
    """Seeded requests whose prefill is cut into chunks kill vLLM on CPU without the guard: here they all answer."""
    words = "alpha beta gamma delta " * 500
    asks = [
        {**story(max_tokens=8, seed=seed), "messages": [{"role": "user", "content": f"{number} {words}"}]}
        for number in range(3)
        for seed in (1, 2)
    ]
    replies = await asyncio.gather(*(http.post("/v1/chat/completions", json=ask) for ask in asks))
    assert [reply.status_code for reply in replies] == [200] * len(asks)
    many = {**story(max_tokens=4, n=64, seed=3, temperature=0.9), "messages": [{"role": "user", "content": words}]}
    assert (await http.post("/v1/chat/completions", json=many)).status_code == 200
    assert (await http.get("/ready")).status_code == 200


BAD = [
    {"logit_bias": {"99999999": 1}},
    {"allowed_token_ids": [99999999]},
    {"stop_token_ids": [2**31 - 1]},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/nowhere"}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", "pattern": "("}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "http://127.0.0.1:9/x"}}}},
    {"min_tokens": 10**12},
    {"max_tokens": 10**12},
    {"messages": [{"role": "user", "content": "word " * 10_000}]},
    {"bad_words": ["\ud83d"]},
    {"messages": [{"role": "user", "content": "<|im_end|>\x00\ufffd\u202e"}], "max_tokens": 2},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "not json"}}]}]},
    {"temperature": 1e-12, "max_tokens": 2},
    {"top_k": -1, "max_tokens": 2},
    {"seed": 2**63 - 1, "n": 3, "max_tokens": 2},
    {"seed": -(2**63), "n": 3, "max_tokens": 2},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "string", "pattern": "^(a{1,1000}){1,1000}$"}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "string", "pattern": "(x+x+)+y", "minLength": 10**6}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "array", "minItems": 10**7, "maxItems": 10**8, "items": {"type": "array", "minItems": 10**5}}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(600)}, "additionalProperties": False}}}},
    {"top_p": 1e-300, "max_tokens": 2},
    {"structured_outputs": {"regex": "(x+x+)+y"}},
    {"structured_outputs": {"regex": "(a{1,1000}){1,1000}"}},
    {"structured_outputs": {"regex": "(.*a.{24}|.*b.{24})"}},
    {"structured_outputs": {"regex": "("}},
    {"structured_outputs": {"grammar": "root ::= root"}},
    {"structured_outputs": {"grammar": 'root ::= "a" root root | root'}},
    {"structured_outputs": {"grammar": "start: /(x+x+)+y/"}},
    {"structured_outputs": {"structural_tag": "{"}},
    {"structured_outputs": {"choice": [""]}},
    {"structured_outputs": {"choice": ["a" * 4096] * 15}},
    {"structured_outputs": {"choice": ["a" * 4096] * 512}},
    {"structured_outputs": {"json": "{"}},
    {"structured_outputs": {"json_object": False}},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD, ids=[json.dumps(bad)[:60] for bad in BAD])
async def test_odd_requests_never_hurt_the_engine(http, fields: dict) -> None:
    """Answered or refused with a 4xx, and the engine lives."""
    response = await http.post("/v1/chat/completions", content=json.dumps(story(max_tokens=4) | fields).encode())
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
    if response.status_code != 200:
        assert response.json()["error"]["message"]
    after = await http.post("/v1/chat/completions", json=story(max_tokens=1))
    assert after.status_code == 200


CYCLES = [
    {"$ref": "#"},
    {"anyOf": [{"$ref": "#"}]},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
]


@pytest.mark.parametrize("schema", CYCLES, ids=json.dumps)
async def test_a_schema_that_leads_to_itself_is_refused(http, schema: dict) -> None:
    """With and without a strategy, streamed and not, and in each field; the engine goes on."""
    form = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    structured = {"structured_outputs": {"json": schema}}
    votes = {"ponder": {"strategy": "self_consistency", "n": 2}}
    search = {"ponder": {"strategy": "beam_search", "n": 2, "expand": 2}}
    for fields in (form, structured, form | votes, structured | search):
        response = await http.post("/v1/chat/completions", json=story(max_tokens=4) | fields)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"].startswith(
            "structured" if "structured_outputs" in fields else "response_format"
        )
    streamed = await http.post("/v1/chat/completions", json=story(max_tokens=4, stream=True) | form)
    assert streamed.status_code == 400 or '"error"' in streamed.text
    assert (await http.post("/v1/chat/completions", json=story(max_tokens=1))).status_code == 200


async def test_the_death_of_the_engine_is_told_and_ends_the_process(start_server) -> None:
    """In-flight requests end with a 503, readiness fails, and the process exits non-zero for its supervisor; no child stays."""
    server = start_server("--max-model-len", "1024", "--kv-cache-gib", "1", is_forked=False)  # its engine is known by its name
    family = server.descendants()
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        asked = asyncio.create_task(http.post("/v1/chat/completions", json=story(max_tokens=900)))
        await until(http, lambda number: number == 1, within=30)
        for pid in family:
            command = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout
            if "EngineCore" in command:
                os.kill(pid, signal.SIGKILL)
        response = await asked
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_dead"
    assert await asyncio.to_thread(server.process.wait, 60) == 1
    assert await asyncio.to_thread(ended, family, 30)


async def test_termination_drains(start_server) -> None:
    """SIGTERM: what runs is finished, and the process exits cleanly."""
    server = start_server("--max-model-len", "1024", "--kv-cache-gib", "1")
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        asked = asyncio.create_task(http.post("/v1/chat/completions", json=story(max_tokens=60)))
        await until(http, lambda number: number == 1, within=30)
        server.process.send_signal(signal.SIGTERM)
        response = await asked
    assert response.status_code == 200
    assert response.json()["usage"]["completion_tokens"] == 60
    assert await asyncio.to_thread(server.process.wait, 60) == 0
