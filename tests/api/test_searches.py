"""Searches over HTTP: what a client reads of a search before, during and after its run."""

import asyncio
import json
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio

SEARCH = {"strategy": "beam_search", "n": 4, "expand": 2, "separator": ";"}


def story(text: str, serial: int) -> str:
    """Two steps, then an answer."""
    said = text.rpartition("assistant:")[2]
    rest = ["first thing;", " second thing;", f" so {[42, 41, 42][serial % 3]}"]
    return "".join(rest[said.count(";") :])


def events(text: str) -> list[dict[str, Any]]:
    payloads = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [json.loads(payload) for payload in payloads[:-1]]


@pytest.mark.parametrize(
    "options",
    [
        SEARCH,
        {"strategy": "best_of_n", "n": 8, "reject": 0.5, "separator": ";"},
        {"strategy": "best_of_n", "n": 8, "reject": 0.5, "wave_tokens": 1, "verifier": "p_true", "select": "vote"},
        {**SEARCH, "diverse": True, "verifier": "p_true"},
        {"strategy": "tree_of_thoughts", "separator": ";"},
        {"strategy": "tree_of_thoughts", "separator": ";", "search": "dfs", "evaluate": "vote"},
        {"strategy": "mcts", "separator": ";", "iterations": 5},
        {"strategy": "mcts", "separator": ";", "iterations": 5, "value": "agreement", "selection": "puct"},
        {"strategy": "particle_filtering", "n": 4, "separator": ";"},
        {"strategy": "sequential_revision", "chains": 2, "attempts": 3},
        {"strategy": "self_aggregation", "n": 3, "rounds": 3, "verifier": "tournament"},
    ],
)
async def test_every_search_answers_and_tells_what_it_cost(serve, options: dict[str, Any]) -> None:
    """The reply has OpenAI's shape, and the tokens and FLOPs of the nodes add up to those of the `ponder` object."""
    async with serve(story) as served:
        reply = (await served.chat(ponder=options, logprobs=True)).json()
        trace = (await served.client.get(f"/v1/traces/{reply['ponder']['trace_id']}")).json()
    assert reply["choices"][0]["message"]["content"].rstrip().endswith(("41", "42"))
    assert reply["choices"][0]["logprobs"]["content"]
    assert reply["ponder"]["stop_reason"] in ("completed", "settled")
    assert trace["status"] == "completed"
    assert trace["ponder"] == reply["ponder"]
    num_verdicts = sum(bool(branch.options) for branch in served.engine.branches)  # one token each, which belongs to no node
    assert sum(node["tokens"] for node in trace["nodes"]) == reply["ponder"]["tokens"]["decoded"] - num_verdicts
    flops = reply["ponder"]["flops"]
    assert sum(node["flops"] for node in trace["nodes"]) == flops["prefill"] + flops["decode"]
    [chosen] = [node for node in trace["nodes"] if node["state"] == "chosen"]
    assert reply["choices"][0]["message"]["content"].endswith(chosen["text"])


async def test_a_stream_tells_how_the_search_goes_and_shows_its_nodes(serve) -> None:
    """The role comes first, then lines of reasoning, nodes if requested, and the answer. The nodes are those of the trace."""
    async with serve(story) as served:
        chunks = events((await served.chat(stream=True, ponder={**SEARCH, "show_nodes": True})).text)
        plain = events((await served.chat(stream=True, ponder=SEARCH)).text)
        trace = (await served.client.get(f"/v1/traces/{chunks[-1]['ponder']['trace_id']}")).json()
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    thoughts = [
        choice["delta"]["reasoning"] for chunk in chunks for choice in chunk["choices"] if "reasoning" in choice["delta"]
    ]
    assert thoughts[0].startswith("Step 1: ")
    shown = {node["id"]: node for chunk in chunks[:-1] for node in chunk.get("ponder", {}).get("nodes", [])}
    assert list(shown.values()) == trace["nodes"]
    assert not any("nodes" in chunk.get("ponder", {}) for chunk in plain)


async def test_progress_is_sent_a_few_times_a_second_at_most(serve) -> None:
    """A hundred candidates in a moment make a line or two. The last line comes before the answer."""
    async with serve() as served:
        ask = {"strategy": "best_of_n", "n": 64, "verifier": "likelihood"}
        chunks = events((await served.chat(stream=True, ponder=ask)).text)
    lines = [choice["delta"]["reasoning"] for chunk in chunks for choice in chunk["choices"] if "reasoning" in choice["delta"]]
    assert 1 < len(lines) < 20
    assert lines[-1].startswith("Candidate 64 of 64")


async def test_a_trace_is_there_while_its_search_runs(serve) -> None:
    """The trace of a disconnected client gets the status `cancelled`."""
    async with serve(story, seconds_per_token=0.05) as served:
        headers = {"X-Request-Id": "mine"}
        body = {
            "model": "scripted",
            "messages": [{"role": "user", "content": "?"}],
            "ponder": {**SEARCH, "strategy": "beam_search"},
        }
        running = asyncio.create_task(served.client.post("/v1/chat/completions", json=body, headers=headers))
        trace: dict[str, Any] = {}
        while not trace.get("nodes"):
            await asyncio.sleep(0.01)
            answer = await served.client.get("/v1/traces/mine")
            trace = answer.json() if answer.status_code == 200 else {}
        assert (trace["status"], trace["ponder"]) == ("running", None)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await served.client.get("/v1/traces/mine")).json()["status"] == "cancelled"


async def test_a_trace_is_shown_only_to_the_key_that_made_it(serve) -> None:
    """Another key cannot find out that the trace exists, though clients choose the ids."""
    async with serve(story, api_keys=("one", "two")) as served:

        async def call(key: str, method: str, path: str, **fields: Any) -> httpx.Response:
            headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "same"}
            return await served.client.request(method, path, headers=headers, **fields)

        body = {"model": "scripted", "messages": [{"role": "user", "content": "?"}], "ponder": SEARCH}
        await call("one", "POST", "/v1/chat/completions", json=body)
        refused = await call("two", "GET", "/v1/traces/same")
        assert (await call("one", "GET", "/v1/traces/same")).json()["strategy"] == "beam_search"
        await call("two", "POST", "/v1/chat/completions", json={**body, "ponder": {"strategy": "direct"}})
        assert (await call("two", "GET", "/v1/traces/same")).json()["strategy"] == "direct"
        assert (await call("one", "GET", "/v1/traces/same")).json()["strategy"] == "beam_search"
        assert (await served.client.get("/v1/traces/same")).status_code == 401
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "trace_not_found"


async def test_old_traces_make_room(serve) -> None:
    """The bounds are the number of traces and their characters."""
    async with serve(story, max_traces=2) as served:
        ids = [(await served.chat(ponder=SEARCH)).json()["ponder"]["trace_id"] for _ in range(3)]
        found = [(await served.client.get(f"/v1/traces/{one}")).status_code for one in ids]
    assert found == [404, 200, 200]
    async with serve(story, max_trace_chars=100) as served:
        one = (await served.chat(ponder=SEARCH)).json()["ponder"]["trace_id"]
        assert (await served.client.get(f"/v1/traces/{one}")).status_code == 404


async def test_a_dry_run_generates_nothing(serve) -> None:
    """It returns the plan and a prediction without a call of the engine, and refuses wrong requests."""
    async with serve(story) as served:
        first = (await served.chat(ponder={**SEARCH, "dry_run": True, "budget": {"tokens": 500}})).json()
        assert served.engine.branches == []
        actual = (await served.chat(ponder=SEARCH)).json()["ponder"]
        second = (await served.chat(ponder={**SEARCH, "dry_run": True})).json()["ponder"]["predicted"]
        auto = (await served.chat(ponder={"dry_run": True})).json()["ponder"]
        wrong = await served.chat(ponder={**SEARCH, "dry_run": True, "n": 5})
    assert first["object"] == "ponder.preview"
    assert first["ponder"]["predicted"]["seconds"] is None  # nothing was measured yet
    assert first["ponder"]["budget"]["tokens"] == 500
    assert second["seconds"] > 0
    assert second["answer_tokens"] == 6
    assert 0.5 < second["tokens"] / actual["tokens"]["decoded"] < 2
    assert auto["strategy"] == "adaptive"
    assert auto["plan"]["why"]
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "ponder.expand")


async def test_a_grammar_and_tools_survive_a_search(serve) -> None:
    """With a constrained form, a step is a whole answer. Tool calls are compared as calls."""
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    async with serve(['{"a": 1}', '{"a": 2}', '{"a": 1}']) as served:
        reply = (await served.chat(response_format=schema, ponder={**SEARCH, "separator": ":"})).json()
        trace = (await served.client.get(f"/v1/traces/{reply['ponder']['trace_id']}")).json()
    assert reply["choices"][0]["message"]["content"] == '{"a": 1}'
    assert all(node["parent"] is None for node in trace["nodes"])
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    async with serve([call, "I do not know"]) as served:
        reply = (await served.chat(tools=tools, ponder=SEARCH)).json()
    assert reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"


async def test_the_callers_stop_string_ends_the_answer_not_a_step(serve) -> None:
    """The stop string is left out of the text, as in every reply, while separators stay in it."""
    async with serve(story) as served:
        reply = (await served.chat(stop=" so", ponder=SEARCH)).json()
        clash = (await served.chat(stop=";", ponder=SEARCH)).json()
    assert reply["choices"][0]["message"]["content"] == "first thing; second thing;"
    assert clash["choices"][0]["message"]["content"] == "first thing"


@pytest.mark.parametrize("field", ["presence_penalty", "frequency_penalty"])
async def test_penalties_that_would_begin_anew_with_each_step_are_refused(serve, field: str) -> None:
    """The engine counts a penalty over one call, and a step is a call whose prompt has the earlier steps."""
    async with serve(story) as served:
        refused = await served.chat(ponder=SEARCH, **{field: 0.5})
        taken = await served.chat(ponder={"strategy": "best_of_n"}, **{field: 0.5})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)
    assert taken.status_code == 200


async def test_several_answers_of_a_search(serve) -> None:
    """The best distinct answers are returned, best first."""
    async with serve(story) as served:
        reply = (await served.chat(n=2, ponder=SEARCH)).json()
    texts = [choice["message"]["content"] for choice in reply["choices"]]
    assert [text[-2:] for text in texts] == ["42", "41"]


async def test_metrics_tell_the_size_of_trees(serve) -> None:
    """Histograms count nodes and depth by strategy."""
    async with serve(story) as served:
        await served.chat(ponder=SEARCH)
        text = (await served.client.get("/metrics")).text
    labels = 'model="scripted",strategy="beam_search"'
    assert f'ponder_tree_depth_bucket{{{labels},le="2.0"}} 0.0' in text
    assert f'ponder_tree_depth_bucket{{{labels},le="4.0"}} 1.0' in text
    assert f"ponder_tree_depth_sum{{{labels}}} 3.0" in text
