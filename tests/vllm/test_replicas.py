"""A front end over a `vllm serve` and a `ponder replica`: answers are those of one process, and no failure of a replica is a caller's."""

import asyncio
import json
import re
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.dashboards import chosen, is_of_replicas, metrics, queries, rules
from tests.server import ForkedServer, Replica
from tests.swap_traffic import WORDS, swap_under_load
from tests.watching import STEP_S, WINDOW, Prometheus, Watched

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

MODEL = "smollm2-135m"
ADAPTERS = Path(__file__).parents[1] / "data" / "adapters"


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Two replicas, each on one processor."""
    folder = tmp_path_factory.mktemp("replicas")
    store = {"PONDER_ADAPTER_STORE_URL": f"file://{folder}/adapters"}
    started = [Replica(number, log=folder / f"replica-{number}", is_own=number == 1, variables=store) for number in range(2)]
    for one in started:
        one.wait()
    yield started
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def front_end(replicas, tmp_path_factory):
    """A front end over both, whose adapters they read from a store."""
    options = [word for one in replicas for word in ("--replica", one.url)]
    options += ["--adapter-store-url", f"file://{replicas[0].log.parent}/adapters"]
    server = ForkedServer(*options, log=tmp_path_factory.mktemp("front-end") / "log")
    server.wait()
    wait_for_replicas(server, 2)
    yield server
    assert server.stop() == 0


def states(server) -> Counter:
    """How many replicas are in which state."""
    return Counter(one["state"] for one in httpx.get(f"{server.url}/v1/replicas", timeout=30).json()["data"])


def wait_for_replicas(server, ready: int, seconds: float = 60) -> None:
    """Until so many replicas are ready."""
    deadline = time.monotonic() + seconds
    while states(server)["ready"] != ready:
        assert time.monotonic() < deadline, httpx.get(f"{server.url}/v1/replicas").text
        time.sleep(0.1)


@pytest.fixture
async def http(front_end):
    """A client of the front end."""
    async with httpx.AsyncClient(base_url=front_end.url, timeout=300) as client:
        yield client


def ask(question: str = "What is 17 + 25?", **fields) -> dict:
    """The body of a chat."""
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], "max_tokens": 40, **fields}


async def answer(http: httpx.AsyncClient, **fields) -> dict:
    """The reply to a chat."""
    response = await http.post("/v1/chat/completions", json=ask(**fields))
    assert response.status_code == 200, response.text
    return response.json()


SAME = [
    {"temperature": 0, "ponder": {"strategy": "direct"}},
    {"seed": 7, "ponder": {"strategy": "self_consistency", "n": 4}},
    {"seed": 3, "ponder": {"strategy": "beam_search", "n": 2, "expand": 2, "depth": 3}},
    {"temperature": 0, "stop": ["5", "answer"], "ponder": {"strategy": "direct"}},
    {"temperature": 0, "logprobs": True, "top_logprobs": 5, "max_tokens": 6, "ponder": {"strategy": "direct"}},
    {"temperature": 0, "response_format": {"type": "json_object"}, "ponder": {"strategy": "direct"}},
    {"seed": 1, "ponder": {"strategy": "best_of_n", "n": 3, "verifier": "p_true"}},
]


@pytest.mark.parametrize("fields", SAME, ids=lambda one: one["ponder"]["strategy"])
async def test_answers_are_those_of_one_process(http, server, fields) -> None:
    """With a seed or greedy: texts, tokens, log-probabilities, and why they end."""
    there = await answer(http, **fields)
    async with httpx.AsyncClient(base_url=server.url, timeout=300) as inside:
        here = await answer(inside, **fields)
    for one in (here, there):
        assert one["usage"]["completion_tokens"] == one["ponder"]["tokens"]["decoded"]
    told = [[choice | {"logprobs": None} for choice in one["choices"]] for one in (here, there)]
    assert told[0] == told[1]
    assert [[one["answer"], one["tokens"], one["finish_reason"]] for one in here["ponder"]["candidates"]] == [
        [one["answer"], one["tokens"], one["finish_reason"]] for one in there["ponder"]["candidates"]
    ]
    if "logprobs" in fields:
        for mine, theirs in zip(*(one["choices"][0]["logprobs"]["content"] for one in (here, there)), strict=True):
            assert theirs["logprob"] == pytest.approx(mine["logprob"], abs=0.1)
            here_top, there_top = ({top["token"]: top["logprob"] for top in one["top_logprobs"]} for one in (mine, theirs))
            shared = here_top.keys() & there_top.keys()
            assert len(shared) >= 4  # the last may be as probable as the next
            assert [there_top[one] for one in shared] == pytest.approx([here_top[one] for one in shared], abs=0.1)


async def test_echoed_log_probabilities(http) -> None:
    """Those of a prompt come from a replica too."""
    body = {
        "model": MODEL,
        "prompt": "The capital of France is",
        "max_tokens": 2,
        "echo": True,
        "logprobs": 2,
        "temperature": 0,
    }
    [choice] = (await http.post("/v1/completions", json=body)).json()["choices"]
    assert choice["text"].startswith("The capital of France is Paris")
    assert choice["logprobs"]["tokens"][:5] == ["The", " capital", " of", " France", " is"]
    assert all(
        2 <= len(top) <= 3 for top in choice["logprobs"]["top_logprobs"][1:]
    )  # the token itself, and the two most probable


async def test_every_token_is_counted_once(http, replicas) -> None:
    """By this server and by the replicas, over strategies and streams; a search stays with the replica that holds its prefix."""
    before = sum(one.count("generation_tokens_total") for one in replicas)
    plans = (
        {"strategy": "self_consistency", "n": 4},
        {"strategy": "mcts", "iterations": 4, "expand": 2},
        {"strategy": "direct"},
    )
    replies = await asyncio.gather(*(answer(http, question=f"What is {i} + 25?", ponder=plans[i % 3]) for i in range(9)))
    decoded = sum(one["ponder"]["tokens"]["decoded"] for one in replies)
    assert decoded == sum(one.count("generation_tokens_total") for one in replicas) - before
    for reply in replies:
        assert reply["ponder"]["branches"]["moved"] == 0
        if reply["ponder"]["strategy"] == "mcts":
            assert reply["ponder"]["tokens"]["cached"] > reply["ponder"]["tokens"]["prefilled"]


async def test_a_caller_that_leaves_ends_its_branches_in_the_replicas(http, replicas, front_end) -> None:
    """Within a few steps of their engines, by the replicas' own counts."""
    options = {"strategy": "self_consistency", "n": 8}
    async with httpx.AsyncClient(base_url=front_end.url, timeout=60) as leaving:
        request = asyncio.create_task(
            leaving.post("/v1/chat/completions", json=ask(ponder=options, max_tokens=1500, ignore_eos=True))
        )
        async with asyncio.timeout(60):
            while sum(one.count("num_requests_running") for one in replicas) < 8:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.05)
        request.cancel()
        await asyncio.wait([request])
    before = sum(one.count("generation_tokens_total") for one in replicas)
    async with asyncio.timeout(20):  # on slow machines that do other work too; a second elsewhere
        while sum(one.count("num_requests_running") for one in replicas):  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.02)
    assert sum(one.count("generation_tokens_total") for one in replicas) - before <= 8 * 8


async def test_a_budget_halts_branches_with_what_they_have(http) -> None:
    """Seconds run out: what was generated is answered and counted."""
    reply = await answer(http, ponder={"strategy": "direct", "budget": {"seconds": 1}}, max_tokens=1500, ignore_eos=True)
    assert reply["ponder"]["stop_reason"] == "budget_seconds"
    assert reply["usage"]["completion_tokens"] > 5
    assert reply["choices"][0]["message"]["content"]


async def test_swaps_under_load(http, front_end) -> None:
    """Over two replicas as on one engine: no request fails, no answer is mixed or stale."""
    findings = await swap_under_load(front_end.url, [ADAPTERS / word for word in WORDS], swaps=8, clients=8)
    assert (findings.failed, findings.mixed, findings.stale) == ([], [], [])
    foreign, own = (await http.get("/v1/replicas")).json()["data"]
    if foreign["frees_adapter_slots"]:
        foreign, own = own, foreign
    assert own["adapters"] == foreign["adapters"] != []
    assert (own["frees_adapter_slots"], own["adapter_slots"]) == (True, 8)


async def test_a_model_of_another_pool_judges_or_answers(replicas, tmp_path) -> None:
    """On its own replica, by the count of that replica, and at its own cost. For the model `auto` either one answers."""
    pools = {"critic": {"model": MODEL, "replicas": [replicas[1].url], "adapter_slots": 0}}
    server = ForkedServer("--replica", replicas[0].url, "--pools", json.dumps(pools), log=tmp_path / "log")
    server.wait()
    plan = {"strategy": "best_of_n", "n": 4, "verifier": {"judge": "critic"}}
    async with httpx.AsyncClient(base_url=server.url, timeout=300) as http:
        models = [one["id"] for one in (await http.get("/v1/models")).json()["data"]]
        before = [one.count("generation_tokens_total") for one in replicas]
        reply = await answer(http, ponder=plan)
        answers, judgements = (one.count("generation_tokens_total") - was for one, was in zip(replicas, before, strict=True))
        alone = (await http.post("/v1/chat/completions", json=ask(model="critic", ponder={"strategy": "direct"}))).json()
        open_choice = (await http.post("/v1/chat/completions", json=ask(model="auto", ponder={"effort": "high"}))).json()
        page = (await http.get("/metrics")).text
    assert server.stop() == 0
    told = reply["ponder"]
    assert {MODEL, "critic", "critic@mcts"} <= set(models)
    assert (told["tokens"]["decoded"], told["models"]["critic"]["tokens"]["decoded"]) == (answers + judgements, judgements)
    assert judgements == 4
    assert told["flops"]["verify"] == told["models"]["critic"]["flops"] > 0
    assert all(0 < one["score"] < 1 for one in told["candidates"])
    assert alone["model"] == "critic"
    assert open_choice["model"] == open_choice["ponder"]["answered_by"]  # one of the models, or an adapter
    legs = open_choice["ponder"]["cascade"]
    assert sum(one["flops"] for one in legs) == open_choice["ponder"]["flops"]["total"]
    assert re.search(r"^ponder_auto_answers_total\{[^}]*\} 1", page, re.MULTILINE)
    counted = re.findall(r'^vllm:generation_tokens_total\{[^}]*replica="([^"]+)"\}', page, re.MULTILINE)
    assert sorted(counted) == sorted(one.url for one in replicas)


PLANS = (
    {"strategy": "self_consistency", "n": 6},
    {"strategy": "beam_search", "n": 2, "expand": 2, "depth": 3},
    {"strategy": "mcts", "iterations": 4, "expand": 2},
    {"strategy": "direct"},
)


async def one_of_many(http: httpx.AsyncClient, number: int) -> dict:
    """The reply to one of many mixed requests, every fourth of which is streamed."""
    body = ask(f"What is {number} + 25? Think step by step.", ponder=PLANS[number % 4])
    if number % 4 != 3:
        response = await http.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        return response.json()
    text = (await http.post("/v1/chat/completions", json={**body, "stream": True})).text
    assert text.endswith("data: [DONE]\n\n"), text[-500:]
    assert '"error"' not in text
    return {}


async def test_a_killed_replica_fails_no_request(http, replicas, front_end) -> None:
    """Its branches go on elsewhere, and what was lost is told. It comes back and gets work again, and has the adapters."""
    requests = [asyncio.create_task(one_of_many(http, number)) for number in range(24)]
    async with asyncio.timeout(60):
        while replicas[1].count("num_requests_running") < 4:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.02)
    await asyncio.to_thread(replicas[1].kill)
    replies = [reply for reply in await asyncio.gather(*requests) if reply]
    assert states(front_end) == {"ready": 1, "failed": 1}
    moved = [reply["ponder"] for reply in replies if reply["ponder"]["branches"]["moved"]]
    assert moved
    assert all(one["tokens"]["recomputed"] > 0 and one["flops"]["recompute"] > 0 for one in moved)
    for reply in replies:
        assert reply["usage"]["completion_tokens"] == reply["ponder"]["tokens"]["decoded"]
    replicas[1].start_again()
    await asyncio.to_thread(replicas[1].wait)
    await asyncio.to_thread(wait_for_replicas, front_end, 2)
    await asyncio.gather(*(one_of_many(http, number) for number in range(40, 48)))
    assert replicas[1].count("generation_tokens_total") > 20
    listed = (await http.get("/v1/replicas")).json()["data"]
    assert listed[0]["adapters"] == listed[1]["adapters"]
    page = (await http.get("/metrics")).text
    assert re.search(r'^ponder_replica_failures\{model="smollm2-135m",replica="[^"]+"\} [1-9]', page, re.MULTILINE)


async def test_a_fleet_is_watched_as_it_is_deployed(http, front_end, tmp_path) -> None:
    """Every query that tells of replicas has data. It is the last test, since some have none before a replica has failed."""
    with (
        Prometheus(tmp_path, front_end.port, "none") as url,
        httpx.Client(base_url=url, timeout=60) as prometheus,
    ):
        start = time.time()
        for first in range(60, 84, 4):
            await asyncio.gather(*(one_of_many(http, number) for number in range(first, first + 4)))
            await asyncio.sleep(STEP_S)  # a scrape between two loads: a rate needs both
        await asyncio.sleep(2 * STEP_S)  # the last scrape, and the rules' look at it
        watched = Watched(prometheus, "", start, time.time())
        asked = [query for query in queries() if is_of_replicas(query.expr)]
        compared = {name for rule in rules() if is_of_replicas(rule["expr"]) for name in metrics(rule["expr"])}
        firing = [
            rule["name"] for group in watched.ask("rules")["groups"] for rule in group["rules"] if rule.get("state") == "firing"
        ]
        assert len(asked) > 10
        assert [query.panel for query in asked if not watched.values(chosen(query.expr, window=WINDOW))] == []
        assert [name for name in compared if not watched.values(name)] == []
        assert firing == []
