"""Several base models behind one server, over HTTP, each on a scripted engine of its own."""

import re

import anyio
import httpx
import pytest
from pydantic import ValidationError

from adapters.weights import BaseModel
from app.engine.scripted import SMALL
from app.settings import Settings
from tests import peft_folder
from tests.api.conftest import AWAY, BIG, VOTE

pytestmark = pytest.mark.anyio


async def test_each_model_answers_under_its_name(serve_two) -> None:
    """Over every route that names one, with and without a strategy; another name is unknown."""
    async with serve_two() as (served, big):
        names = [one["id"] for one in (await served.client.get("/v1/models")).json()["data"]]
        replies = [(await served.chat(model=name)).json() for name in ("scripted", "big", "big@best_of_n")]
        told = (await served.client.get("/v1/models/big@auto")).json()
        asked = {"model": "big", "input": "What is 17 + 25?"}
        response = (await served.client.post("/v1/responses", json=asked)).json()
        message = {"model": "big", "max_tokens": 9, "messages": [{"role": "user", "content": "17 + 25?"}]}
        claude = (await served.client.post("/v1/messages", json=message)).json()
        text = (await served.client.post("/v1/completions", json={"model": "big", "prompt": "17 + 25 ="})).json()
        tokens = (await served.client.post("/tokenize", json={"model": "big", "prompt": "six words"})).json()
        unknown = await served.chat(model="bigger")
    assert {"scripted", "big", "scripted@direct", "big@mcts"} <= set(names)
    assert len(names) == len(set(names))
    assert [reply["model"] for reply in replies] == ["scripted", "big", "big"]
    assert ["So" in reply["choices"][0]["message"]["content"] for reply in replies] == [False, True, True]
    assert (told["parent"], told["max_model_len"]) == ("big", 2048)
    assert response["output"][-1]["content"][0]["text"] == "So it is 42."
    assert claude["content"][-1]["text"] == text["choices"][0]["text"] == "So it is 42."
    assert tokens["count"] == 2
    assert unknown.status_code == 404
    assert big.running == {}


async def test_another_model_judges_at_its_own_cost(serve_two) -> None:
    """It reads question and answer in its own words, and is charged by its own arithmetic. Replies and metrics tell the models apart."""
    async with serve_two() as (served, big):
        reply = (await served.chat(ponder=VOTE)).json()
        trace = (await served.client.get(f"/v1/traces/{reply['ponder']['trace_id']}")).json()
        page = (await served.client.get("/metrics")).text
    told = reply["ponder"]
    assert reply["choices"][0]["message"]["content"] == "It is 42."
    assert {one["answer"]: round(one["score"], 2) for one in told["candidates"]} == {
        "41": 0.05,
        "42": 0.95,
        "43": 0.05,
        "44": 0.05,
    }
    assert {branch.prompt.request["messages"][0]["content"] for branch in big.branches} == {"?"}
    assert all("What is 17 + 25?" in big.decode(branch.prefix) for branch in big.branches)
    spent = sum(sum(BIG.branch_cost(len(branch.prefix), 0, 1)) for branch in big.branches)
    assert told["models"]["big"]["tokens"]["decoded"] == 4
    cached = told["models"]["big"]["tokens"]["cached"]
    assert 0 < told["models"]["big"]["flops"] <= spent
    assert (told["models"]["big"]["flops"] == spent) is (cached == 0)
    assert told["flops"]["verify"] == told["models"]["big"]["flops"]
    assert trace["ponder"]["models"] == told["models"]
    by_model = {model: total(page, "ponder_flops_total", model) for model in ("scripted", "big")}
    assert by_model == {"scripted": told["flops"]["total"] - told["flops"]["verify"], "big": told["flops"]["verify"]}


def total(page: str, name: str, model: str) -> float:
    """The sum of a metric over all series of a model."""
    return sum(float(value) for value in re.findall(rf'^{name}\{{[^}}]*model="{model}"[^}}]*\}} (\S+)$', page, re.MULTILINE))


async def test_a_model_can_judge_itself_and_an_adapter_can_judge(serve_two, tmp_path) -> None:
    """Of its own pool, and of another one. The adapter is leased for the run."""
    folder = peft_folder.write(tmp_path / "made", BaseModel("big", BIG.num_layers, BIG.linear_modules))
    files = [("files", (path.name, path.read_bytes())) for path in folder.iterdir() if path.suffix in (".json", ".safetensors")]
    async with serve_two() as (served, big):
        pushed = await served.client.post("/v1/adapters", data={"name": "critic", "base_model": "big"}, files=files)
        by_itself = await served.chat(ponder={**VOTE, "verifier": {"judge": "scripted"}})
        by_adapter = await served.chat(ponder={**VOTE, "verifier": {"judge": "critic"}})
        await served.chat(model="critic")
    assert pushed.status_code == 201, pushed.text
    assert by_itself.json()["ponder"]["models"] == {}
    assert by_adapter.json()["ponder"]["models"].keys() == {"big"}
    assert {branch.adapter and branch.adapter.name.split("#")[0].split(":")[0] for branch in big.branches} == {"critic"}


@pytest.mark.parametrize(
    ("judge", "word"), [("nobody", "does not exist"), ("big@mcts", "names a strategy"), ("", "at least 1 character")]
)
async def test_a_judge_that_there_is_not(serve_two, judge, word) -> None:
    """It is the caller's mistake, told before anything is generated."""
    async with serve_two() as (served, big):
        refused = await served.chat(ponder={**VOTE, "verifier": {"judge": judge}})
    assert refused.status_code == 400
    assert word in refused.json()["error"]["message"]
    assert served.engine.branches == big.branches == []


async def test_a_judge_without_room(serve_two) -> None:
    """A request that the judge's pool can never admit is refused for good; one that finds it full may come again."""
    async with serve_two(small_slots=4, max_branches_per_key=16) as (served, _):
        never = await served.chat(ponder={**VOTE, "n": 20})
    async with serve_two(big_slots=2, max_waiting_branches=1, slow=0.2) as (served, _):
        async with anyio.create_task_group() as full:
            for _ in range(3):
                full.start_soon(lambda: served.chat(model="big", ponder={"strategy": "direct"}))
            await anyio.sleep(0.1)
            later = await served.chat(ponder={**VOTE, "n": 2})
        left = [one.admission.num_admitted for one in served.app.state.pools]
    assert never.status_code == 400
    assert "`big` admits at most 16 branches" in never.json()["error"]["message"]
    assert later.status_code == 503
    assert "retry-after" in later.headers
    assert left == [0, 0]


async def test_a_caller_who_leaves_ends_the_judgement(serve_two) -> None:
    """Nothing is left in either engine, and no place is held."""
    async with serve_two(slow=0.5) as (served, big):

        def is_busy() -> bool:
            return bool(
                big.running or served.engine.running or any(one.admission.num_admitted for one in served.app.state.pools)
            )

        with anyio.move_on_after(0.2):
            await served.chat(ponder=VOTE)
        assert big.branches != []
        with anyio.fail_after(2):
            while is_busy():  # noqa: ASYNC110 - of two engines
                await anyio.sleep(0.01)
        assert served.app.state.pools.metrics.num_in_flight == 0


async def test_each_model_has_its_own_adapters(serve_two, tmp_path) -> None:
    """They are kept in folders of their own; a name stands for one adapter of the whole server."""
    shapes = {"scripted": SMALL, "big": BIG}
    async with serve_two() as (served, _):

        async def push(name: str, base: str, shape: str) -> httpx.Response:
            architecture = shapes[shape]
            model = BaseModel(shape, architecture.num_layers, architecture.linear_modules)
            folder = peft_folder.write(tmp_path / f"{name}-{base}-{shape}", model)
            files = [("files", (p.name, p.read_bytes())) for p in folder.iterdir() if p.suffix in (".json", ".safetensors")]
            return await served.client.post("/v1/adapters", data={"name": name, "base_model": base}, files=files)

        assert (await push("a", "big", "big")).status_code == 201
        assert (await push("b", "scripted", "scripted")).status_code == 201
        misfit, taken, reserved, unknown = (
            await push("c", "big", "scripted"),
            await push("a", "scripted", "scripted"),
            await push("scripted", "big", "big"),
            await push("d", "bigger", "big"),
        )
        parents = {
            one["id"]: one["parent"] for one in (await served.client.get("/v1/models")).json()["data"] if "@" not in one["id"]
        }
        answers = {name: (await served.chat(model=name)).json()["choices"][0]["message"]["content"] for name in ("a", "b")}
        listed = (await served.client.get("/v1/adapters")).json()
        page = (await served.client.get("/metrics")).text
        gone = await served.client.delete("/v1/adapters/a")
        freed = await push("a", "scripted", "scripted")
    assert parents == {"scripted": None, "big": None, "auto": None, "a": "big", "b": "scripted"}
    assert ("So" in answers["a"], "So" in answers["b"]) == (True, False)
    assert {one.status_code for one in (misfit, taken, reserved)} == {400}
    assert unknown.status_code == 404
    assert "Another base model" in taken.json()["error"]["message"]
    assert {one["id"] for one in listed["data"]} == {"a", "b"}
    assert listed["slots"] == {"total": 8, "held": 2}
    assert 'ponder_adapter_state{adapter="a",state="serving"} 1.0' in page
    assert 'ponder_adapter_state{adapter="b",state="serving"} 1.0' in page
    assert (gone.status_code, freed.status_code) == (200, 201)
    assert (tmp_path / "adapters" / ".pools" / "big" / "a").is_dir() is False
    assert (tmp_path / "adapters" / "b").is_dir()


async def test_a_server_is_ready_while_one_model_answers(serve_two) -> None:
    """It tells which one does not, and is not ready once none does."""
    async with serve_two() as (served, big):
        big.outage = "no replica is ready: 1 failed"
        partly = await served.client.get("/ready")
        page = (await served.client.get("/metrics")).text
        big.die()
        dead = await served.client.get("/health")
    assert (partly.status_code, partly.json()["models"]) == (200, {"big": "no replica is ready: 1 failed"})
    assert 'ponder_engine_up{model="big"} 1.0' in page
    assert 'ponder_branch_slots{model="scripted"} 64.0' in page
    assert dead.status_code == 503


async def test_policies_are_of_one_model(serve_two) -> None:
    """A name without a policy is unknown, whichever model it is; a policy that is none is refused by the model's own check."""
    async with serve_two() as (served, _):
        missing = [(await served.client.get(f"/v1/policies/{name}")).status_code for name in ("scripted", "big", "nobody")]
        refused = await served.client.put("/v1/policies/big", content=b"{}")
    assert missing == [404, 404, 404]
    assert refused.status_code == 400


@pytest.mark.parametrize(
    ("pools", "word"),
    [
        ({"big": {"model": "/models/big"}}, "only one model may run in this process: name the replicas of big"),
        ({"scripted": AWAY}, "is the name of the first model"),
        ({"big": {**AWAY, "model_name": "x"}}, "that of the pool"),
        ({"big": {"replicas": ["http://127.0.0.1:9"]}}, "Field required"),
        ({"big": {**AWAY, "max_n": 3}}, "Extra inputs"),
        ({"../big": AWAY}, "pattern"),
        ({"big": {**AWAY, "replicas": ["file:///etc/passwd"]}}, "no URL of a server"),
    ],
)
def test_pools_that_cannot_be_served(pools, word) -> None:
    """They are refused at the start, before anything is loaded."""
    with pytest.raises(ValidationError, match=re.escape(word)):
        Settings(model="scripted", pools=pools)


def test_the_first_model_may_have_replicas_too() -> None:
    """Then one other model runs in this process. What is not said of a pool is as for the first model, or the default."""
    settings = Settings(
        model="/models/a", replicas=["http://a:1"], chat_template="/t", max_n=9, pools={"b": {"model": "/models/b"}}
    )
    first, second = settings.of_pools()
    assert first is settings
    assert (second.name, second.model, second.replicas, second.chat_template, second.max_n) == ("b", "/models/b", (), None, 9)
    assert second.adapter_dir == settings.adapter_dir / ".pools" / "b"
