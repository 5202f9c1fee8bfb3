"""`model: "auto"` over two base models and their adapters, on scripted engines: who answers, what it costs, and what fails."""

import itertools
import json
import re
from dataclasses import replace

import anyio
import pytest

from adapters.names import AdapterRef
from adapters.weights import BaseModel
from app.engine.scripted import SMALL
from app.errors import EngineFailed
from app.routing.cascade import Choice
from app.serving.cascade import Cascade
from tests import example_policies, peft_folder
from tests.api.conftest import BIG

pytestmark = pytest.mark.anyio


class Turns:
    """A policy that asks these members in turn, and notes what it was told."""

    def __init__(self, *names: str | None, is_last: bool = False) -> None:
        self.names, self.is_last = names, is_last
        self.members, self.attempts = [], []

    def knows(self, name):
        """Return True: all adapters take part."""
        return True

    def choose(self, question, members, attempts, effort):
        """Return the next name."""
        self.members.append([one.name for one in members])
        self.attempts.append(list(attempts))
        left = [name for name in self.names if name not in {one.member for one in attempts}]
        name = next((name for name in left if name in self.members[-1]), None)
        return Choice(name, f"it is the turn of {name}", is_last=self.is_last)


def by_turns(served, *names: str | None, is_last: bool = False) -> Turns:
    """Let the server ask these members in turn."""
    policy, pools = Turns(*names, is_last=is_last), served.app.state.pools
    pools.auto = Cascade(list(pools), lambda: policy)
    return policy


async def ask(served, content: str = "What is 17 + 25?", **fields):
    return await served.chat(content, model="auto", **fields)


async def reply_of(served, *args, **fields) -> dict:
    response = await ask(served, *args, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def legs(reply: dict) -> list[str]:
    return [one["model"] for one in reply["ponder"]["cascade"]]


def events(text: str) -> list[dict]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


def total(page: str, name: str, model: str, **labels: str) -> float:
    """The sum of a metric over all series of a model with these labels."""
    rows = re.findall(rf"^{name}\{{([^}}]*)\}} (\S+)$", page, re.MULTILINE)
    wanted = [f'{key}="{value}"' for key, value in {"model": model, **labels}.items()]
    return sum(float(value) for found, value in rows if all(one in found for one in wanted))


async def test_every_route_answers(serve_two) -> None:
    """Under the name of the model that answered, which the header repeats; the list of models has `auto` once."""
    async with serve_two() as (served, _):
        by_turns(served, "big")
        listed = [one["id"] for one in (await served.client.get("/v1/models")).json()["data"]]
        entry = (await served.client.get("/v1/models/auto")).json()
        chat = await ask(served)
        text = (await served.client.post("/v1/completions", json={"model": "auto", "prompt": "17 + 25 ="})).json()
        response = (await served.client.post("/v1/responses", json={"model": "auto", "input": "What is 17 + 25?"})).json()
        asked = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "17 + 25?"}]}
        message = (await served.client.post("/v1/messages", json=asked)).json()
        counted = (await served.client.post("/v1/messages/count_tokens", json=asked)).json()
    assert listed.count("auto") == 1
    assert (entry["id"], entry["parent"]) == ("auto", None)
    assert chat.headers["x-ponder-model"] == chat.json()["ponder"]["answered_by"] == "big"
    assert [one["model"] for one in (chat.json(), text, response, message)] == ["big"] * 4
    assert response["output"][-1]["content"][0]["text"] == message["content"][-1]["text"] == "So it is 42."
    assert counted["input_tokens"] > 0


async def test_a_dearer_model_is_asked_after_a_doubtful_answer(serve_two) -> None:
    """Everything is charged: each model by its own arithmetic, in the reply, in the metrics and in the trace."""
    async with serve_two() as (served, big):
        policy = by_turns(served, "scripted", "big")
        reply = await reply_of(served)
        page = (await served.client.get("/metrics")).text
        trace = (await served.client.get(f"/v1/traces/{reply['ponder']['trace_id']}")).json()
    told, [small, large] = reply["ponder"], reply["ponder"]["cascade"]
    assert reply["choices"][0]["message"]["content"] == "So it is 42."
    assert [small["model"], large["model"], told["answered_by"]] == ["scripted", "big", "big"]
    assert small["why"] == "it is the turn of scripted"
    assert small["difficulty"] > large["difficulty"] == told["difficulty"]["after"]
    [attempt] = policy.attempts[1]
    assert round(attempt.difficulty, 4) == small["difficulty"]
    assert attempt.evidence.votes == (attempt.evidence.answers // 4,) * 4
    assert told["flops"]["total"] == small["flops"] + large["flops"]
    assert told["models"]["scripted"]["flops"] == small["flops"]
    assert large["flops"] >= sum(BIG.branch_cost(len(big.branches[0].prefix), 0, 4))
    assert reply["usage"]["completion_tokens"] == told["tokens"]["decoded"]
    assert told["tokens"]["decoded"] > told["models"]["scripted"]["tokens"]["decoded"] > 0
    assert reply["usage"]["prompt_tokens"] == 2 * len(big.branches[0].prompt.token_ids)
    assert [total(page, "ponder_flops_total", model) for model in ("scripted", "big")] == [small["flops"], large["flops"]]
    assert [total(page, "ponder_requests_total", model, outcome="completed") for model in ("scripted", "big")] == [1, 1]
    assert total(page, "ponder_auto_answers_total", "big", asked="later") == 1
    assert (trace["model"], trace["status"], trace["ponder"]) == ("big", "completed", told)


async def test_an_answer_that_another_may_follow_is_looked_at(serve_two) -> None:
    """Also where the policy of the model would answer directly; but for the last one, which nobody looks at."""
    async with serve_two(learning=False) as (served, _):
        easy = example_policies.policy(model="scripted", hard=0.1, right=0.2)
        assert (await served.client.put("/v1/policies/scripted", content=easy.model_dump_json())).status_code == 200
        by_turns(served, "scripted", "big")
        first = await reply_of(served)
        by_turns(served, "scripted", is_last=True)
        last = await reply_of(served)
    assert [one["strategy"] for one in first["ponder"]["cascade"]] == ["adaptive", "adaptive"]
    assert [one["strategy"] for one in last["ponder"]["cascade"]] == ["direct"]


async def test_no_place_is_held_while_another_pool_is_asked(serve_two) -> None:
    """So two requests that ask the same models cannot block each other, though each pool has one slot."""
    async with serve_two(small_slots=1, big_slots=1, slow=0.05) as (served, big):
        by_turns(served, "scripted", "big")
        [small_pool, big_pool] = [one.admission for one in served.app.state.pools]
        async with anyio.create_task_group() as group:
            group.start_soon(ask, served)
            with anyio.fail_after(5):
                while not big.running:  # noqa: ASYNC110 - of an engine
                    await anyio.sleep(0.01)
            held = small_pool.num_admitted, big_pool.num_admitted
        policies = itertools.cycle([Turns("scripted", "big"), Turns("big", "scripted")])
        served.app.state.pools.auto = Cascade(list(served.app.state.pools), lambda: next(policies))
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(ask, served)
    assert held == (0, 1)
    assert (small_pool.num_admitted, big_pool.num_admitted) == (0, 0)


async def test_the_answer_that_is_most_probably_right_is_given(serve_two) -> None:
    """Here the dearer model's answer was cut. The trace is that of the model that answered."""
    async with serve_two() as (served, _):
        by_turns(served, "scripted", "big")
        reply = await reply_of(served, max_tokens=3)
        trace = (await served.client.get(f"/v1/traces/{reply['ponder']['trace_id']}")).json()
    assert [one["difficulty"] for one in reply["ponder"]["cascade"]][1] == 1.0
    assert legs(reply) == ["scripted", "big"]
    assert (reply["model"], reply["choices"][0]["message"]["content"]) == ("scripted", "It is 41.")
    assert (trace["model"], trace["status"]) == ("scripted", "completed")
    assert reply["ponder"]["models"].keys() == {"big"}


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "Write a poem about the sea."},
        {"tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]},
        {"response_format": {"type": "json_object"}},
    ],
)
async def test_where_no_estimate_tells_the_largest_model_answers(serve_two, fields) -> None:
    """It is chosen once, and the policy is not asked: nothing was fitted to such answers."""
    async with serve_two() as (served, _):
        policy = by_turns(served, "scripted")
        reply = await reply_of(served, **fields)
    assert legs(reply) == ["big"]
    assert policy.members == []


@pytest.mark.parametrize(
    "fields", [{"ponder": {"strategy": "direct"}}, {"n": 2}, {"temperature": 0}, {"prompt_logprobs": 1}], ids=str
)
async def test_who_answers_is_chosen_once(serve_two, fields) -> None:
    """Where the caller names the strategy, or wants several answers: nothing is learned that another choice could rest on."""
    async with serve_two() as (served, _):
        by_turns(served, "scripted", "big")
        reply = await reply_of(served, **fields)
        named = (await served.chat(model="auto@direct")).json()
    assert legs(reply) == legs(named) == ["scripted"]
    assert named["ponder"]["strategy"] == "direct"


async def test_tokens_of_a_request_are_those_of_the_first_model(serve_two) -> None:
    """The same ids are other tokens to another model."""
    async with serve_two() as (served, _):
        policy = by_turns(served, "big", "scripted")
        read = await served.client.post("/tokenize", json={"model": "scripted", "prompt": "What is 17 + 25?"})
        body = {"model": "auto", "prompt": read.json()["tokens"]}
        text = (await served.client.post("/v1/completions", json=body)).json()
        biased = await reply_of(served, logit_bias={"5": -100})
    assert text["model"] == biased["model"] == "scripted"
    assert policy.members[-1] == ["scripted"]


async def test_one_budget_holds_for_all_models(serve_two) -> None:
    """The next one gets what is left. It is not asked where nothing is."""
    async with serve_two() as (served, big):
        by_turns(served, "scripted", "big")
        free = await reply_of(served)
        small = free["ponder"]["models"]["scripted"]["tokens"]["decoded"]
        some = await reply_of(served, ponder={"budget": {"tokens": small + 2}})
        spent, branches = some["ponder"]["cascade"][0]["flops"], len(big.branches)
        none = await reply_of(served, ponder={"budget": {"tokens": 3}})
        few = await reply_of(served, ponder={"budget": {"flops": spent + 1}})
    assert small > 3
    assert (legs(some), legs(none)) == (["scripted", "big"], ["scripted"])
    assert some["usage"]["completion_tokens"] <= small + 2
    assert (some["model"], none["model"]) == ("big", "scripted")
    assert few["ponder"]["flops"]["total"] <= spent + 1
    assert len(big.branches) == branches


async def test_a_model_that_is_known_to_be_down_is_not_asked(serve_two) -> None:
    """The reply says so. Where all are down, the caller hears why."""
    async with serve_two() as (served, big):
        policy = by_turns(served, "big", "scripted")
        big.outage = "no replica is ready"
        reply = await reply_of(served)
        served.engine.die()
        big.die()
        dead = await ask(served)
    assert (legs(reply), reply["ponder"]["notes"]) == (["scripted"], ["big is down, and was not asked"])
    assert policy.members[0] == ["scripted"]
    assert dead.status_code == 503


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_fails_leaves_the_answer_that_there_is(serve_two, stream) -> None:
    """What it spent is charged, and the reply says that it failed."""
    async with serve_two() as (served, big):
        by_turns(served, "scripted", "big")
        big.error = EngineFailed("The engine failed at this request.")
        response = await ask(served, stream=stream)
    reply = events(response.text)[-1] if stream else response.json()
    assert [one["stop_reason"] for one in reply["ponder"]["cascade"]][1] == "failed"
    assert reply["ponder"]["answered_by"] == reply["model"] == "scripted"
    assert reply["ponder"]["notes"] == ["big could not answer: The engine failed at this request."]


async def test_another_model_answers_where_the_first_one_fails(serve_two) -> None:
    """An error after a part of its answer was sent is told as ever: the part cannot be taken back."""
    async with serve_two(slow=0.01) as (served, big):
        by_turns(served, "big", "scripted")
        big.error = EngineFailed("The engine failed at this request.")
        reply = await reply_of(served)
        big.error = None
        async with anyio.create_task_group() as group:

            async def kill() -> None:
                while not big.running:  # noqa: ASYNC110 - of an engine
                    await anyio.sleep(0.001)
                await anyio.sleep(0.02)
                big.die()

            group.start_soon(kill)
            cut = await ask(served, "Write a poem.", stream=True)
    assert (legs(reply), reply["model"]) == (["big", "scripted"], "scripted")
    assert "big could not answer" in reply["ponder"]["notes"][0]
    assert "engine_dead" in cut.text
    assert "It is" not in cut.text


async def test_a_pool_without_room_is_passed_over(serve_two) -> None:
    """Where all are full, the caller may come again."""
    async with serve_two(big_slots=1, max_waiting_branches=1, slow=0.2) as (served, _):
        by_turns(served, "scripted", "big")
        async with anyio.create_task_group() as full:
            for _ in range(2):
                full.start_soon(lambda: served.chat(model="big", ponder={"strategy": "direct"}))
            await anyio.sleep(0.05)
            kept = await reply_of(served)
            by_turns(served, "big", "scripted")
            first = await reply_of(served)
            served.engine.die()
            refused = await ask(served)
        admitted = [one.admission.num_admitted for one in served.app.state.pools]
    assert (kept["model"], legs(kept)) == ("scripted", ["scripted"])
    assert (first["model"], legs(first)) == ("scripted", ["scripted"])
    assert "big could not answer: The server has too many branches" in first["ponder"]["notes"][0]
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert "retry-after" in refused.headers
    assert admitted == [0, 0]


async def test_a_wrong_request_is_told_as_by_one_model(serve_two) -> None:
    """Nothing is generated."""
    async with serve_two() as (served, big):
        by_turns(served, "scripted", "big")
        wrong = await ask(served, ponder={"strategy": "best_of_n", "n": 10_000})
        parameter = await ask(served, ponder={"width": 3})
        unknown = [await served.chat(model=name) for name in ("auto@nothing", "automatic", "auto:12345678")]
        judge = await served.chat(ponder={"strategy": "best_of_n", "n": 2, "verifier": {"judge": "auto"}})
        tokens = await served.client.post("/tokenize", json={"model": "auto", "prompt": "six"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "ponder.n")
    assert (parameter.status_code, parameter.json()["error"]["param"]) == (400, "ponder.width")
    assert [one.status_code for one in unknown] == [404, 404, 404]
    assert (judge.status_code, tokens.status_code) == (400, 404)
    assert served.engine.branches == big.branches == []


async def test_a_prompt_that_only_one_model_reads(serve_two) -> None:
    """The other one is passed over, also in a dry run."""
    async with serve_two() as (served, _):
        long = "one " * 1900 + "What is 17 + 25?"
        by_turns(served, "scripted", "big")
        served.engine.card = replace(served.engine.card, max_model_len=100)
        reply = await reply_of(served, long)
        previewed = await reply_of(served, long, ponder={"dry_run": True})
        wrong = await ask(served, ponder={"dry_run": True, "strategy": "best_of_n", "n": 10_000})
    assert reply["model"] == previewed["model"] == "big"
    assert wrong.json()["error"]["param"] == "ponder.n"
    assert "scripted could not answer" in reply["ponder"]["notes"][0]


async def test_a_stream_has_the_content_of_one_answer(serve_two) -> None:
    """Of an answer that may be replaced, only the progress is told. The first content comes under the name of who wrote it."""
    async with serve_two() as (served, _):
        by_turns(served, "scripted", "big")
        chunks = events(
            (await ask(served, stream=True, ponder={"show_nodes": True}, stream_options={"include_usage": True})).text
        )
        quiet = events((await ask(served, stream=True, ponder={"progress": "none"})).text)
        spoken = (await served.client.post(
            "/v1/messages",
            json={"model": "auto", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "17 + 25?"}]},
        )).text  # fmt: skip
        response = (await served.client.post("/v1/responses", json={"model": "auto", "input": "17 + 25?", "stream": True})).text
    nodes = {node["id"]: node["text"] for chunk in chunks for node in chunk.get("ponder", {}).get("nodes", ())}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(one.get("content") or "" for one in deltas) == "So it is 42."
    assert "Answer 1: It is 41." in "".join(one.get("reasoning") or "" for one in deltas)
    assert {chunk["model"] for chunk in chunks if chunk["choices"][:1] and chunk["choices"][0]["delta"].get("content")} == {
        "big"
    }
    assert chunks[-1]["usage"]["completion_tokens"] > 12
    assert nodes[0] == "It is 41."
    assert nodes[max(nodes)] == "So it is 42."
    assert {one["model"] for one in quiet} == {"big"}
    assert spoken.count("So it is 42.") == 1
    assert '"text":"It is 41.' not in spoken
    assert events(response)[-1]["response"]["model"] == "big"


@pytest.mark.parametrize(("content", "is_last"), [("Write a poem.", False), ("What is 17 + 25?", True)])
async def test_a_final_answer_is_streamed_while_it_is_written(serve_two, content, is_last) -> None:
    """Where nobody is asked after it: in an open chat, and where the policy says so."""
    async with serve_two(slow=0.01) as (served, _):
        by_turns(served, "big", is_last=is_last)
        fields = {"temperature": 0} if is_last else {}
        response = await ask(served, content, stream=True, **fields)
    words = [chunk["choices"][0]["delta"].get("content") for chunk in events(response.text)]
    assert len([one for one in words if one]) > 2
    assert response.headers["x-ponder-model"] == "big"


async def test_a_caller_who_leaves_ends_everything(serve_two) -> None:
    """In whichever leg: nothing is left in either engine, and no place is held."""
    async with serve_two(slow=0.5) as (served, big):
        by_turns(served, "scripted", "big")
        with anyio.move_on_after(0.3):
            await ask(served)
        assert big.branches != []
        with anyio.fail_after(2):
            while big.running or served.engine.running:  # noqa: ASYNC110 - of two engines
                await anyio.sleep(0.01)
            while any(one.admission.num_admitted for one in served.app.state.pools):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert served.app.state.pools.metrics.num_in_flight == 0


async def test_a_deadline_holds_for_all_models(serve_two) -> None:
    """The second one is ended by what the first one has left of the seconds."""
    async with serve_two(slow=1.0) as (served, _):
        by_turns(served, "scripted", "big")
        with anyio.fail_after(3):
            reply = await reply_of(served, ponder={"budget": {"seconds": 0.4}})
    assert reply["model"] == "scripted"
    assert reply["ponder"]["cascade"][1]["stop_reason"] == "budget_seconds"


async def test_a_dry_run_shows_the_choice(serve_two) -> None:
    """All that may answer with difficulty and cost, and the plan of the first one. Nothing is generated."""
    async with serve_two() as (served, big):
        by_turns(served, "big", "scripted")
        told = await reply_of(served, ponder={"dry_run": True})
        short = await reply_of(served, ponder={"dry_run": True}, max_completion_tokens=2)
        named = (await served.chat(ponder={"dry_run": True})).json()
    members = {one["model"]: one for one in told["ponder"]["members"]}
    assert told["model"] == "big"
    assert told["ponder"]["cascade"] == [{"model": "big", "why": "it is the turn of big"}]
    assert members.keys() == {"scripted", "big"}
    assert 0 < members["scripted"]["flops"] < members["big"]["flops"]
    assert members["big"]["estimator"] == "general"
    assert named["ponder"]["members"] == []
    assert [one["flops"] < members["big"]["flops"] for one in short["ponder"]["members"]] == [True, True]
    assert served.engine.branches == big.branches == []


async def push(served, folder, name: str, base: str = "scripted", *, verifies: bool = False) -> str:
    """Upload an adapter, and return the hash of its version."""
    shape = {"scripted": SMALL, "big": BIG}[base]
    made = peft_folder.write(folder / name, BaseModel(base, shape.num_layers, shape.linear_modules))
    if verifies:
        (made / "ponder.json").write_text(json.dumps({"verifier_prompt": VERIFIER_PROMPT}))
    files = [("files", (one.name, one.read_bytes())) for one in made.iterdir() if one.suffix in (".json", ".safetensors")]
    response = await served.client.post("/v1/adapters", data={"name": name, "base_model": base}, files=files)
    assert response.status_code == 201, response.text
    return response.json()["version"]


VERIFIER_PROMPT = {"template": "\nIs this answer correct (Yes or No)?", "yes": " Yes", "no": " No"}


async def test_adapters_take_part(serve_two, tmp_path) -> None:
    """Those that answer: not those that verify, and none that nobody has calibrated where no policy was fitted to it."""
    async with serve_two() as (served, _):
        await push(served, tmp_path, "sums")
        await push(served, tmp_path, "critic", "big", verifies=True)
        general = await reply_of(served)
        previewed = await reply_of(served, ponder={"dry_run": True})
        policy = by_turns(served, "sums", "big")
        reply = await reply_of(served)
        response = await ask(served, ponder={"strategy": "direct"})
    assert general["model"] in ("scripted", "big")
    assert [one["model"] for one in previewed["ponder"]["members"]] == ["scripted", "big"]
    assert policy.members[0] == ["scripted", "sums", "big"]
    assert legs(reply) == ["sums", "big"]
    assert response.headers["x-ponder-adapter"] == response.json()["ponder"]["adapter"]
    assert response.headers["x-ponder-adapter"].startswith("sums:")


async def test_a_calibrated_adapter_takes_part_for_the_kinds_of_answers_that_were_measured(serve_two, tmp_path) -> None:
    """Of other kinds nothing tells what it was taught."""
    async with serve_two() as (served, _):
        version = await push(served, tmp_path, "sums")
        architecture = served.app.state.pools.first.planning.planner.architecture_of(AdapterRef("sums")).to_dict()
        file = example_policies.policy(model="scripted", adapter=version, architecture=architecture, hard=0.1)
        assert (await served.client.put("/v1/policies/sums", content=file.model_dump_json())).status_code == 200
        math, text = [await reply_of(served, ponder={"dry_run": True, "answer": kind}) for kind in ("math", "text")]
        answered = await reply_of(served)
    estimators = {one["model"]: one["estimator"] for one in math["ponder"]["members"]}
    assert estimators == {"scripted": "general", "sums": "calibrated", "big": "general"}
    assert [one["model"] for one in text["ponder"]["members"]] == ["scripted", "big"]
    assert answered["ponder"]["cascade"][0]["model"] == math["model"] == "sums"


async def test_an_adapter_that_is_really_named_auto_is_found_first(serve_two, tmp_path) -> None:
    """And listed once."""
    async with serve_two() as (served, _):
        await push(served, tmp_path, "auto")
        reply = await reply_of(served)
        listed = [one["id"] for one in (await served.client.get("/v1/models")).json()["data"]]
        parent = (await served.client.get("/v1/models/auto")).json()["parent"]
    assert reply["ponder"]["adapter"].startswith("auto:")
    assert reply["ponder"]["cascade"] == []
    assert (listed.count("auto"), parent) == (1, "scripted")


async def test_one_model_alone_is_that_model(serve) -> None:
    """With its own plan, streamed while it is written where it can be."""
    async with serve(learning=False) as served:
        named, reply = (await served.chat(seed=1)).json(), (await served.chat(model="auto", seed=1)).json()
    assert (reply["model"], reply["choices"]) == ("scripted", named["choices"])
    assert reply["ponder"]["plan"] == named["ponder"]["plan"]
    assert legs(reply) == ["scripted"]


async def test_keys_hold_as_for_one_model(serve_two) -> None:
    """Without a key nothing is answered, and each leg has the salt of its own key, so that no cache is shared."""
    keys = ["key-of-a-tenant-1", "key-of-a-tenant-2"]
    async with serve_two(api_keys=keys) as (served, big):
        by_turns(served, "scripted", "big")
        refused = await ask(served)
        for key in keys:
            served.client.headers["Authorization"] = f"Bearer {key}"
            await reply_of(served)
        trace = await served.client.get("/v1/traces")
    salts = [{branch.cache_salt for branch in engine.branches} for engine in (served.engine, big)]
    assert refused.status_code == 401
    assert salts[0] == salts[1]
    assert len(salts[0]) == 2
    assert len(trace.json()["data"]) == 1


async def put(served, file) -> int:
    content = file if isinstance(file, bytes) else file.model_dump_json().encode()
    return (await served.client.put("/v1/policies/auto", content=content)).status_code


async def test_a_fitted_cascade_chooses_among_its_members(serve_two, tmp_path) -> None:
    """It is put as the policy `auto`, holds from the next request on, and can be taken back. Adapters are told by their hash."""
    async with serve_two() as (served, _):
        sums = await push(served, tmp_path, "sums")
        with_sums = served.app.state.pools.first.planning.planner.architecture_of(AdapterRef("sums")).to_dict()
        small, large = ("scripted", sums, with_sums, 0.4), ("big", None, BIG.to_dict(), 0.1)
        assert await put(served, example_policies.cascade(small, large)) == 200
        followed = await reply_of(served)
        assert await put(served, example_policies.cascade(small, large, after=0.99)) == 200
        alone = await reply_of(served)
        shown = (await served.client.get("/v1/policies/auto")).json()
        back = await served.client.post("/v1/policies/auto/choose", json={"number": None})
        general = await reply_of(served)
    assert legs(followed) == ["sums", "big"]
    assert legs(alone) == ["big"]
    assert (shown["current"], shown["numbers"], len(shown["policy"]["members"])) == (2, [1, 2], 2)
    assert back.status_code == 200
    assert "fitted" in followed["ponder"]["cascade"][0]["why"]
    assert "fitted" not in general["ponder"]["cascade"][0]["why"]


async def test_a_cascade_of_other_models_is_refused(serve_two) -> None:
    """And so is one that is none. One that lies on the disk and fits no longer is passed over."""
    async with serve_two() as (served, _):
        strange = example_policies.cascade(("scripted", "a" * 64, SMALL.to_dict(), 0.4), ("big", None, BIG.to_dict(), 0.1))
        fitting = example_policies.cascade(("scripted", None, SMALL.to_dict(), 0.4), ("big", None, BIG.to_dict(), 0.1))
        namesake = example_policies.cascade(("other", None, SMALL.to_dict(), 0.4), ("big", None, BIG.to_dict(), 0.1))
        statuses = [await put(served, file) for file in (strange, namesake, b"{}", b"[" * 10_000, fitting)]
        wrong = await served.client.put("/v1/policies/scripted", content=fitting.model_dump_json())
    async with serve_two() as (served, big):
        kept = await reply_of(served)
        big.card = replace(big.card, architecture=SMALL)
        changed = await reply_of(served)
    assert statuses == [400, 400, 400, 400, 200]
    assert wrong.status_code == 400
    assert "best worth of 2 (fitted)" in kept["ponder"]["cascade"][0]["why"]
    assert changed["ponder"]["cascade"] != []
