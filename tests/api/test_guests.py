"""Models that take part in requests to other ones, where something goes wrong, over HTTP on scripted engines."""

from pathlib import Path

import anyio
import pytest

from adapters.weights import BaseModel
from app.engine.architecture import Architecture
from app.engine.scripted import SMALL
from app.errors import EngineDead, EngineFailed, InvalidRequest, NoReplica
from tests import peft_folder
from tests.api.conftest import BIG, VOTE
from tests.conftest import Served

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    "error",
    [EngineFailed("Failed."), NoReplica("None.", retry_after=2), EngineDead("Dead."), InvalidRequest("Refused.")],
    ids=lambda error: type(error).__name__,
)
async def test_a_judge_that_fails(serve_two, error, is_stream) -> None:
    """Likelihood chooses of the answers, which are there and paid for. A note says so."""
    async with serve_two() as (served, big):
        big.error = error
        reply = await served.chat(ponder=VOTE, stream=is_stream)
        left = [one.admission.num_admitted for one in served.app.state.pools]
    assert reply.status_code == 200
    assert "big does not answer; likelihood chose instead" in reply.text
    assert "error" not in reply.text.replace('"error":null', "")
    assert left == [0, 0]


async def test_a_judge_without_probabilities(serve_two) -> None:
    """A broken engine says nothing, or no number: that is a failure too, also of the model that answers."""
    async with serve_two() as (served, big):
        for believes in ({}, {"A": float("nan"), "B": float("nan")}):
            big.believes = believes
            by_judge = (await served.chat(ponder=VOTE)).json()
            by_itself = await served.chat(model="big", ponder={**VOTE, "verifier": "p_true"})
            assert by_judge["ponder"]["notes"] == ["big does not answer; likelihood chose instead"]
            assert (by_itself.status_code, by_itself.json()["error"]["code"]) == (500, "engine_failed")


@pytest.mark.parametrize(("judge", "word"), [("nobody", "does not exist"), ("big@mcts", "names a strategy")])
async def test_a_dry_run_finds_what_the_run_would_refuse(serve_two, judge, word) -> None:
    """A plan is told only of a judge that there is."""
    async with serve_two() as (served, _):
        refused = await served.chat(ponder={**VOTE, "verifier": {"judge": judge}, "dry_run": True})
        told = await served.chat(ponder={**VOTE, "dry_run": True})
    assert (refused.status_code, told.status_code) == (400, 200)
    assert word in refused.json()["error"]["message"]


async def test_a_dry_run_predicts_what_the_judge_costs(serve_two) -> None:
    """By its own arithmetic: the larger model costs more, and as much as a judge is told to read."""
    question = "What is 17 + 25? " * 60
    async with serve_two() as (served, _):
        asked = {"content": question, "max_tokens": 4}
        by = {
            judge: (await served.chat(**asked, ponder={**VOTE, "verifier": {"judge": judge}, "dry_run": True})).json()
            for judge in ("scripted", "big")
        }
        spent = (await served.chat(**asked, ponder=VOTE)).json()["ponder"]["flops"]["total"]
    predicted = {judge: told["ponder"]["predicted"]["flops"] for judge, told in by.items()}
    assert predicted["big"] > 2 * predicted["scripted"]
    assert 0.5 < predicted["big"] / spent < 2


async def test_each_prompt_of_a_completion_is_judged_by_itself(serve_two) -> None:
    """As the question to its answers, also where it is given in tokens."""
    async with serve_two() as (served, big):
        prompts = ["First question?", "Second question?"]
        tokens = [(await served.client.post("/tokenize", json={"prompt": one})).json()["tokens"] for one in prompts]
        for prompt in (prompts, tokens):
            big.branches.clear()
            reply = await served.client.post(
                "/v1/completions", json={"model": "scripted", "prompt": prompt, "ponder": {**VOTE, "n": 1}}
            )
            assert reply.status_code == 200
            asked = {big.decode(one.prefix).partition("Question: ")[2].partition("\n")[0] for one in big.branches}
            assert asked == set(prompts)


async def push(served: Served, tmp_path: Path, name: str, base: str, architecture: Architecture) -> None:
    """Add a made-up adapter."""
    folder = peft_folder.write(tmp_path / name, BaseModel(base, architecture.num_layers, architecture.linear_modules))
    files = [("files", (path.name, path.read_bytes())) for path in folder.iterdir() if path.suffix in (".json", ".safetensors")]
    pushed = await served.client.post("/v1/adapters", data={"name": name, "base_model": base}, files=files)
    assert pushed.status_code == 201, pushed.text


async def test_adapters_of_two_pools_that_judge_each_other(serve_two, tmp_path) -> None:
    """With one slot in each pool, neither request waits for what the other one holds."""
    async with serve_two(adapter_slots=1, slow=0.01, adapter_wait_seconds=5) as (served, _):
        for name, base, architecture in (
            ("a", "scripted", SMALL), ("b", "scripted", SMALL), ("c", "big", BIG), ("d", "big", BIG),
        ):  # fmt: skip
            await push(served, tmp_path, name, base, architecture)
        replies = {}

        async def ask(model: str, judge: str) -> None:
            replies[model] = await served.chat(model=model, ponder={**VOTE, "verifier": {"judge": judge}})

        with anyio.fail_after(4):
            async with anyio.create_task_group() as group:
                for model, judge in (("a", "c"), ("d", "b")) * 3:
                    group.start_soon(ask, model, judge)
    assert {model: reply.status_code for model, reply in replies.items()} == {"a": 200, "d": 200}


async def test_an_adapter_that_judges_another_one_of_its_pool(serve_two, tmp_path) -> None:
    """Both are leased at once: where there is one slot, the request is refused, and waits for nothing."""
    async with serve_two(adapter_slots=1) as (served, _):
        for name in ("a", "b"):
            await push(served, tmp_path, name, "scripted", SMALL)
        with anyio.fail_after(2):
            refused = await served.chat(model="a", ponder={**VOTE, "verifier": {"judge": "b"}})
            itself = await served.chat(model="a", ponder={**VOTE, "verifier": {"judge": "a"}})
    assert (refused.status_code, itself.status_code) == (400, 200)
    assert "2 adapters at the same time" in refused.json()["error"]["message"]
