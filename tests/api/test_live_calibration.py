"""A server asks a few questions again to calibrate from its traffic: seldom, within a budget, on free slots, and at nobody's expense."""

import asyncio
import json
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.training.data import DatasetQuestion
from adapters.weights import BaseModel
from app.admission import LAST_PRIORITY
from app.engine.scripted import SMALL
from app.lab.calibration.command import calibrate
from app.lab.calibration.files import POLICY, REPORT
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.pool import PoolRefused, read_pool
from app.routing.pool_file import POOL, PoolEntry, PoolSettings
from app.serving import live_calibration, live_pool
from tests import peft_folder
from tests.conftest import Served

pytestmark = pytest.mark.anyio

QUESTION = "What is 17 + 25?"
WIDE = {"strategy": "best_of_n", "n": 64, "verifier": "likelihood"}
SHARE = 0.5


@pytest.fixture
def live(serve, tmp_path):
    """`async with live(…) as served`: a server that asks each question again for which it has slots and FLOPs."""

    @asynccontextmanager
    async def served(*args: object, **settings: object) -> AsyncIterator[Served]:
        usual = {"live_calibration_share": SHARE, "live_calibration_dir": tmp_path / "live"}
        async with serve(*args, **{**usual, **settings}) as one:
            one.app.state.pools.first.observers.live.chance = lambda: 0.0
            yield one

    return served


async def earn(served: Served, times: int = 4, **fields: object) -> None:
    """Spend FLOPs on a question that must not be kept, so that the share of them is there for live calibration."""
    for _ in range(times):
        reply = await served.chat("Earn?", store=False, ponder=WIDE, **fields)
        assert reply.status_code == 200, reply.text


async def number(served: Served, name: str) -> dict[str, float]:
    """The values of a metric by their labels."""
    page = (await served.client.get("/metrics")).text
    return {labels: float(value) for labels, value in re.findall(rf"^ponder_{name}{{([^}}]*)}} (\S+)", page, re.MULTILINE)}


async def outcomes(served: Served) -> dict[str, int]:
    """How many questions were asked again, by what became of them; those that are being asked are waited for."""
    one = served.app.state.pools.first.observers.live
    while one.is_asking:  # noqa: ASYNC110 - it tells nobody of its end
        await asyncio.sleep(0.01)
    found = await number(served, "live_calibration_questions_total")
    return {re.findall('outcome="(.*?)"', labels)[0]: int(value) for labels, value in found.items() if value}


async def begun(served: Served) -> None:
    """Wait until a question is being asked again."""
    while len(served.engine.running) < 8:  # noqa: ASYNC110 - it tells nobody of its beginning
        await asyncio.sleep(0.01)


def kept(folder: Path) -> tuple[PoolSettings, list[PoolEntry]]:
    [path] = folder.glob(f"live/*/{POOL}")
    settings, entries = read_pool(path)
    return settings, list(entries)


async def test_it_is_off_by_default(serve, tmp_path) -> None:
    async with serve(live_calibration_dir=tmp_path / "live") as served:
        for _ in range(20):
            await served.chat(ponder={"strategy": "direct"})
        assert len(served.engine.branches) == 20
        assert set((await number(served, "live_calibration_flops_total")).values()) == {0.0}
    assert not (tmp_path / "live").exists()


async def test_a_question_is_asked_again_behind_all_requests_and_kept_as_calibration_reads_it(live, tmp_path) -> None:
    """A greedy answer and seven samples, together; the same question is asked again once. Only the owner may read the file."""
    async with live() as served:
        await earn(served)
        before = await number(served, "flops_total")
        mine = len(served.engine.branches)
        await served.chat(ponder={"strategy": "direct"}, temperature=0.3, seed=5)
        assert await outcomes(served) == {"kept": 1}
        request, *again = served.engine.branches[mine:]
        spent = sum((await number(served, "live_calibration_flops_total")).values())
        after = await number(served, "flops_total")
        await served.chat(ponder={"strategy": "direct"})
        assert await outcomes(served) == {"kept": 1, "known": 1}
    assert len(again) == 8
    assert {one.priority for one in again} == {LAST_PRIORITY} != {request.priority}
    assert sorted(one.temperature is None for one in again) == [False] + [True] * 7
    assert {one.prompt.sampling["temperature"] for one in again} == {0.7}
    assert {one.prefix for one in again} == {request.prefix}
    # what it costs is in no metric of requests
    charged = sum(after.values()) - sum(before.values())
    assert 0 < charged < spent
    settings, [entry] = kept(tmp_path)
    assert (settings.model, settings.samples, settings.temperature, settings.is_labelled) == (DEFAULT, 7, 0.7, False)
    assert entry.key == DatasetQuestion(messages=[{"role": "user", "content": QUESTION}]).key
    assert (entry.question, entry.kind, entry.prefix) == (QUESTION, "math", request.prefix)
    assert len(entry.samples) == 7
    assert len(entry.greedy.margins) == len(entry.greedy.entropies) == len(entry.greedy.token_ids)
    [path] = tmp_path.glob(f"live/*/{POOL}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


DEFAULT = "smollm2-135m"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
PARTS = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
SAID = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "It"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"store": False},
        {"messages": [{"role": "user", "content": "Write a poem about lions."}]},
        {"messages": PARTS},
        {"messages": SAID, "continue_final_message": True},
        {"tools": [TOOL]},
        {"response_format": {"type": "json_object"}},
        {"stop": ["\n"]},
        {"presence_penalty": 1},
        {"logit_bias": {"5": 1}},
    ],
    ids=lambda fields: next(iter(fields)) + str(len(str(fields))),
)
async def test_what_must_not_be_kept_or_cannot_be_compared_is_not_asked_again(live, tmp_path, fields: dict) -> None:
    """Neither is a text completion, nor a message or a response that is not stored."""
    async with live() as served:
        await earn(served)
        assert (await served.chat(ponder={"strategy": "direct"}, **fields)).status_code == 200
        body = {"model": "scripted@direct", "prompt": QUESTION}
        assert (await served.client.post("/v1/completions", json=body)).status_code == 200
        said = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 32, "store": False}
        assert (await served.client.post("/v1/messages", json={"model": "scripted@direct", **said})).status_code == 200
        body = {"model": "scripted@direct", "input": QUESTION, "store": False}
        assert (await served.client.post("/v1/responses", json=body)).status_code == 200
        assert await outcomes(served) == {}
        # and what may be kept is, also in other shapes
        await served.client.post("/v1/responses", json={**body, "store": True})
        assert await outcomes(served) == {"kept": 1}


async def test_its_answers_go_on_behind_their_false_lines(live, tmp_path) -> None:
    """Each is drawn whole, and then continued behind the right result, as a policy that backtracks would have it."""
    first, second = "17 + 25 = 43\nIt is 43.", "\nIt is 42."

    def script(prompt: str, _number: int) -> str:
        return second if "17 + 25 = 42" in prompt else first if QUESTION in prompt else "It is 1."

    async with live(script) as served:
        await earn(served, times=8)
        mine = len(served.engine.branches)
        await served.chat(ponder={"strategy": "direct"})
        assert await outcomes(served) == {"kept": 1}
        _, *again = served.engine.branches[mine:]
    assert len(again) == 16
    assert len({one.id for one in again}) == 16
    settings, [entry] = kept(tmp_path)
    assert (settings.backtracked, settings.attempts) == (7, 3)
    for answer in entry.answers:
        assert answer.text == first
        [continuation] = answer.continuations
        assert continuation.text == second


async def test_only_the_share_of_the_questions_is_asked_again(live) -> None:
    async with live(live_calibration_share=0.25) as served:
        await earn(served)
        one = served.app.state.pools.first.observers.live
        for number_, chance in enumerate((0.24, 0.26, 0.9)):
            one.chance = lambda chance=chance: chance
            await served.chat(f"What is {number_} + 1?", ponder={"strategy": "direct"})
        assert await outcomes(served) == {"kept": 1}


@pytest.mark.parametrize("words", [1, 30])
async def test_its_flops_are_at_most_the_share_of_those_of_requests(live, words: int) -> None:
    """Whatever the answers are, and at each moment."""
    async with live(lambda _prompt, number: "so " * words * (1 + number % 5) + "42", live_calibration_share=0.1) as served:
        for turn in range(180):
            await served.chat(f"What is {turn} + 1?", ponder={"strategy": "best_of_n", "n": 4, "verifier": "likelihood"})
            done = await outcomes(served)
            spent, of_requests = [
                sum((await number(served, name)).values()) for name in ("live_calibration_flops_total", "flops_total")
            ]
            assert spent <= 0.1 * of_requests
        assert done["kept"] > 2
        assert spent > 0.05 * of_requests


async def test_it_ends_as_soon_as_a_branch_waits(live, tmp_path) -> None:
    """The slots go to the request; what was drawn is lost, and charged to the share."""
    async with live(["so " * 400 + "42"], max_branches=16, seconds_per_token=0.005) as served:
        await earn(served, max_tokens=40)
        assert (await served.chat(ponder={"strategy": "direct"}, max_tokens=20)).status_code == 200
        one = served.app.state.pools.first.observers.live
        await begun(served)
        reply = await served.chat("What is 1 + 1?", store=False, ponder={**WIDE, "n": 16}, max_tokens=20)
        assert reply.status_code == 200
        assert not one.is_asking
        assert (await outcomes(served))["stopped"] == 1
        assert sum((await number(served, "live_calibration_flops_total")).values()) > 0
    assert not kept(tmp_path)[1]


async def test_without_free_slots_nothing_is_asked_again(live) -> None:
    async with live(max_branches=8) as served:
        await earn(served)
        await served.chat(ponder={"strategy": "direct"})
        assert await outcomes(served) == {}


async def test_the_end_of_the_server_ends_it(live) -> None:
    async with live(["so " * 400 + "42"], seconds_per_token=0.005) as served:
        await earn(served, max_tokens=20)
        await served.chat(ponder={"strategy": "direct"}, max_tokens=5)
        await begun(served)
    assert not served.engine.running


async def test_its_failure_is_nobody_s(live, caplog) -> None:
    """The log tells only of what kind it was: an error may have a part of the prompt."""

    def script(prompt: str, number: int) -> str:
        if "17" in prompt and number:
            raise RuntimeError(prompt)
        return "It is 42."

    async with live(script) as served:
        await earn(served)
        assert (await served.chat(ponder={"strategy": "direct"})).status_code == 200
        assert await outcomes(served) == {"failed": 1}
        assert (await served.chat("What is 1 + 1?", ponder={"strategy": "direct"})).status_code == 200
        assert await outcomes(served) == {"failed": 1, "kept": 1}
    assert "live calibration" in caplog.text
    assert "17" not in caplog.text


async def test_its_answers_correct_the_estimate(live) -> None:
    """All say the same, so the question is easier than it seemed. A direct answer alone teaches nothing."""
    async with live(["It is 42."]) as served:
        await earn(served)
        before = (await served.chat("What is 1 + 1?", store=False, ponder={"strategy": "direct"})).json()["ponder"][
            "difficulty"
        ]
        for turn in range(3):
            await served.chat(f"What is {turn} + 25?", ponder={"strategy": "direct"})
            await outcomes(served)
        after = (await served.chat("What is 1 + 1?", store=False, ponder={"strategy": "direct"})).json()["ponder"]["difficulty"]
    assert before["correction"]["before"] == 0
    assert after["correction"]["before"] < -0.1


async def test_an_adapter_that_leaves_ends_it(live, tmp_path) -> None:
    """Until then the answers are its own, in a file of its own."""
    base = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)
    folder = peft_folder.write(tmp_path / "made", base, seed=1)
    files = [("files", (one, (folder / one).read_bytes())) for one in ("adapter_config.json", "adapter_model.safetensors")]
    async with live(["so " * 400 + "42"], seconds_per_token=0.002) as served:
        pushed = await served.client.post("/v1/adapters", data={"name": "mine"}, files=files)
        assert pushed.status_code == 201, pushed.text
        await earn(served, max_tokens=20)
        await served.chat(model="mine", ponder={"strategy": "direct"}, max_tokens=5)
        await begun(served)
        assert (await served.client.delete("/v1/adapters/mine")).status_code == 200
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not served.engine.adapters:
                break
        assert not served.engine.adapters
        assert (await outcomes(served))["stopped"] == 1


async def test_one_of_several_keys_fills_at_most_half(live, monkeypatch) -> None:
    monkeypatch.setattr(live_calibration, "MAX_BYTES", 10)
    async with live(api_keys=("one", "two")) as served:
        found = []
        for key in ("one", "one", "two"):
            served.client.headers["Authorization"] = f"Bearer {key}"
            await earn(served)
            await served.chat(f"What is {len(found)} + 1?", ponder={"strategy": "direct"})
            found.append((await outcomes(served))["kept"])
    assert found == [1, 1, 2]


async def test_the_files_do_not_fill_the_disk(live, monkeypatch) -> None:
    monkeypatch.setattr(live_pool, "MAX_BYTES", 2000)
    async with live() as served:
        await earn(served)
        for turn in range(2):
            await served.chat(f"What is {turn} + 1?", ponder={"strategy": "direct"})
            done = await outcomes(served)
    assert done == {"kept": 1, "full": 1}


async def test_a_folder_that_cannot_be_written_costs_nothing(live, tmp_path) -> None:
    """It is opened before anything is drawn."""
    async with live() as served:
        (tmp_path / "live").write_text("a file")
        await earn(served)
        assert (await served.chat(ponder={"strategy": "direct"})).status_code == 200
        assert await outcomes(served) == {"failed": 1}
        assert sum((await number(served, "live_calibration_flops_total")).values()) == 0


async def test_a_restarted_server_goes_on_behind_the_last_whole_line(live, tmp_path) -> None:
    async with live() as served:
        await earn(served)
        await served.chat(ponder={"strategy": "direct"})
        assert await outcomes(served) == {"kept": 1}
    [path] = tmp_path.glob(f"live/*/{POOL}")
    path.write_text(path.read_text() + '{"key": "cut')
    async with live() as served:
        await earn(served)
        await served.chat(ponder={"strategy": "direct"})
        await outcomes(served)
        await served.chat("What is 1 + 1?", ponder={"strategy": "direct"})
        assert await outcomes(served) == {"known": 1, "kept": 1}
    assert [one.question for one in kept(tmp_path)[1]] == [QUESTION, "What is 1 + 1?"]


def sums(prompt: str, number: int) -> str:
    """Sums are always right, and riddles half of the time."""
    first, second = map(int, re.findall(r"\d+", prompt)[:2] or (1, 1))
    return f"It is {first + second + (number % 2 if 'riddle' in prompt else 0)}."


async def test_a_policy_is_made_of_live_traffic_and_served(live, tmp_path, capsys) -> None:
    """No answer is drawn again, and the folder may be that of all pools only where the command can tell which is meant."""
    async with live(sums) as served:
        await earn(served, times=40)
        for turn in range(40):
            text = ("What is {} + 5?", "A riddle: how much is {} + 5?")[turn % 2].format(turn)
            await served.chat(text, ponder={"strategy": "direct"})
            await outcomes(served)
        assert (await outcomes(served))["kept"] == 40
        [pool] = tmp_path.glob("live/*")
        options = CalibrateOptions(live=pool, out=tmp_path / "out", minutes=5)
        await asyncio.to_thread(calibrate, options)
        policy = json.loads((tmp_path / "out" / POLICY).read_text())
        put = await served.client.put("/v1/policies/scripted", json={**policy, "model": "scripted"})
        assert put.status_code == 200, put.text
        reply = (await served.chat("What is 90 + 5?", store=False)).json()["ponder"]["difficulty"]
        assert reply["estimator"] == "calibrated"
    assert policy["provenance"]["questions"] == 40
    assert policy["provenance"]["labels"]["how"] == "agreement"
    assert "made without answers" in (tmp_path / "out" / REPORT).read_text()
    assert stat.S_IMODE((tmp_path / "out" / POOL).stat().st_mode) == 0o600
    with pytest.raises(PoolRefused, match=f"there is one in {pool.name}"):
        calibrate(CalibrateOptions(live=tmp_path / "live", out=tmp_path / "other"))
