"""Policies are shown, replaced and rolled back while requests are served. A broken or foreign one is refused, and the old one stays."""

import pytest

from app.routing.policy_file import Exits, MeasuredExit
from tests.example_policies import policy
from tests.thinkers import MARKS, thinker

pytestmark = pytest.mark.anyio

PATH = "/v1/policies/scripted"


def scripted(**fields: object) -> str:
    return policy(model="scripted", **fields).model_dump_json()


async def plan(served, **fields: object) -> dict:
    """What `auto` would do."""
    reply = await served.chat(ponder={"dry_run": True, **fields})
    assert reply.status_code == 200
    return reply.json()["ponder"]


async def test_a_policy_is_replaced_while_requests_are_served_and_rolled_back(serve, tmp_path) -> None:
    async with serve(policy_dir=tmp_path / "policies") as served:
        prior = await plan(served)
        assert (prior["strategy"], prior["plan"]["calibrated"]) == ("adaptive", False)
        assert 0 < prior["difficulty"] < 1
        assert (await served.client.get(PATH)).status_code == 404
        first = await served.client.put(PATH, content=scripted(hard=0.1))
        assert (first.status_code, first.json()["current"]) == (200, 1)
        assert (await plan(served))["strategy"] == "direct"
        second = await served.client.put(PATH, content=scripted(hard=0.7))
        assert second.json()["numbers"] == [1, 2]
        after = await plan(served)
        assert (after["strategy"], round(after["difficulty"], 3)) == ("adaptive", 0.7)
        back = await served.client.post(f"{PATH}/choose", json={"number": 1})
        assert back.json()["current"] == 1
        assert (await plan(served))["strategy"] == "direct"
        assert (await served.client.get(PATH)).json()["policy"]["model"] == "scripted"
        assert [one["model"] for one in (await served.client.get("/v1/policies")).json()["data"]] == ["scripted"]
    async with serve(policy_dir=tmp_path / "policies") as served:  # a restart changes nothing
        assert (await plan(served))["strategy"] == "direct"
        none = await served.client.post(f"{PATH}/choose", json={"number": None})
        assert none.json()["current"] is None
        assert (await plan(served))["plan"]["calibrated"] is False


async def test_a_policy_has_a_plan_for_every_request(serve, tmp_path) -> None:
    """Half a surrogate pair is no UTF-8. The first of several prompts has the difficulty.

    Token ids have one where the caller says what kind of answer is wanted: nobody detects a kind in them.
    """
    async with serve(policy_dir=tmp_path / "policies") as served:
        await served.client.put(PATH, content=scripted(hard=0.7))
        body = b'{"model": "scripted", "messages": [{"role": "user", "content": "What is 1 + 1? \\ud800"}]}'
        reply = await served.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        assert reply.status_code in (200, 400)
        reply = await served.client.post(
            "/v1/completions", json={"model": "scripted", "prompt": ["What is 1 + 1?", "What is 2 + 2?"]}
        )
        assert reply.json()["ponder"]["difficulty"]["before"] == 0.7
        ids = (await served.client.post("/tokenize", json={"model": "scripted", "prompt": "What is 1 + 1?"})).json()["tokens"]
        for fields, difficulty in (({}, None), ({"ponder": {"answer": "math"}}, 0.7)):
            reply = await served.client.post("/v1/completions", json={"model": "scripted", "prompt": ids, **fields})
            told = reply.json()["ponder"]["difficulty"]
            assert (told and told["before"]) == difficulty


EXITS = Exits(
    questions=100,
    thresholds=tuple(
        MeasuredExit(confidence=mean, transitions=places, threshold=threshold, accuracy=0, thinking=0.5, trials=0.1)
        for mean, places, threshold in (("mean", ("\n",), 0.7), ("mean", ("Wait",), 0.8), ("minimum", ("\n",), 0.6))
    ),
)


@pytest.mark.parametrize(
    ("asked", "threshold", "transitions"),
    [
        ({}, 0.7, ["\n"]),
        ({"transitions": ["Wait"]}, 0.8, ["Wait"]),
        ({"confidence": "minimum"}, 0.6, ["\n"]),
        ({"confidence": "geometric"}, 0.95, None),
        ({"transitions": ["Hmm"]}, 0.95, ["Hmm"]),
        ({"inducer": "So: "}, 0.95, None),
        ({"threshold": 0}, 0, None),
        ({"rule": "agreement"}, None, None),
        ({"answer": "text"}, 0.95, None),
    ],
)
async def test_early_exits_have_the_threshold_that_was_measured(
    serve, tmp_path, asked: dict, threshold: float | None, transitions: list[str] | None
) -> None:
    """The first that fits the request, for the kinds of answers that were measured; the reply tells it."""
    async with serve(thinker(f"So it is {MARKS[1]} 42"), thinking=MARKS, policy_dir=tmp_path / "policies") as served:
        await served.client.put(PATH, content=scripted(exits=EXITS))
        told = (await plan(served, strategy="early_exit", **{"answer": "math", **asked}))["plan"]["parameters"]
        await served.client.put(PATH, content=scripted().replace(',"exits":null', ""))  # a file of an older version
        before = (await plan(served, strategy="early_exit", answer="math"))["plan"]["parameters"]
    assert (told["threshold"], told["transitions"]) == (threshold, transitions)
    assert (before["threshold"], before["transitions"]) == (0.95, None)


async def test_a_policy_that_is_damaged_on_disk_does_not_take_the_place_of_a_good_one(serve, tmp_path) -> None:
    async with serve(policy_dir=tmp_path) as served:
        for hard in (0.1, 0.7):
            await served.client.put(PATH, content=scripted(hard=hard))
        (tmp_path / "scripted" / "0001.json").write_text("{")
        assert (await served.client.post(f"{PATH}/choose", json={"number": 1})).status_code == 400
        assert (await plan(served))["difficulty"] == pytest.approx(0.7, abs=1e-3)
        assert (tmp_path / "scripted" / "current").read_text() == "2"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "broken"),
        ("{}", "broken"),
        ("[" * 100_000, "broken"),
        (scripted().replace('"version":1', '"version":7'), "version"),
        (scripted().replace('"bias":0.1', '"bias":1e999'), "bias"),
        (policy(model="another").model_dump_json(), "made for the model another"),
        (scripted(adapter="ab" * 32), "made for version abababab"),
    ],
)
async def test_a_broken_or_foreign_policy_is_refused_and_the_old_one_stays(serve, tmp_path, content: str, why: str) -> None:
    async with serve(policy_dir=tmp_path / "policies") as served:
        await served.client.put(PATH, content=scripted(hard=0.7))
        refused = await served.client.put(PATH, content=content)
        assert refused.status_code == 400
        assert why in refused.json()["error"]["message"]
        assert (await plan(served))["strategy"] == "adaptive"


async def test_only_for_what_is_served_and_only_for_administrators(serve, tmp_path) -> None:
    async with serve(policy_dir=tmp_path / "policies", api_keys="user", admin_keys="admin") as served:
        for name in ("nobody", "scripted@direct", "..", "%2e%2e%2fetc"):
            reply = await served.client.put(
                f"/v1/policies/{name}", content=scripted(), headers={"Authorization": "Bearer admin"}
            )
            assert reply.status_code in {404, 405}
        for method, path in (("PUT", PATH), ("GET", PATH), ("GET", "/v1/policies"), ("POST", f"{PATH}/choose")):
            reply = await served.client.request(method, path, headers={"Authorization": "Bearer user"})
            assert reply.status_code == 401
    assert not (tmp_path / "policies").exists()


async def test_a_file_that_was_damaged_on_disk_is_not_used(serve, tmp_path) -> None:
    async with serve(policy_dir=tmp_path / "policies") as served:
        await served.client.put(PATH, content=scripted(hard=0.1))
    (tmp_path / "policies" / "scripted" / "0001.json").write_text("{")
    async with serve(policy_dir=tmp_path / "policies") as served:
        assert (await plan(served))["plan"]["calibrated"] is False


async def test_the_reply_tells_difficulty_before_and_after_and_what_it_cost(serve, tmp_path) -> None:
    """The first answer is that of `direct`, and its tokens are part of the vote."""
    async with serve(["It is 42."] * 9, policy_dir=tmp_path / "policies") as served:
        await served.client.put(PATH, content=scripted(hard=0.7, right=0.3))
        account = (await served.chat()).json()["ponder"]
        assert account["strategy"] == "adaptive"
        assert account["plan"]["calibrated"]
        assert 0 < account["difficulty"].pop("first_tokens") < 1
        assert account["difficulty"] == {
            "before": 0.7,
            "interval": [0.3231, 1.0],
            "after": 0.7,
            "estimator": "calibrated",
            "correction": {"before": 0, "after": 0},
        }
        assert account["branches"]["drawn"] == 4
        assert [one["index"] for one in account["candidates"]] == [0, 1, 2, 3]
        temperatures = [branch.temperature for branch in served.engine.branches]
        assert temperatures == [0.0, None, None, None]
        low = (await served.chat(ponder={"effort": "low"})).json()["ponder"]
        assert low["branches"]["drawn"] == 1
        assert low["stop_reason"] == "diminishing_returns"


async def test_a_caller_s_own_sampling_fields_are_kept(serve, tmp_path) -> None:
    async with serve(["It is 42."] * 9, policy_dir=tmp_path / "policies") as served:
        await served.client.put(PATH, content=scripted(hard=0.7))
        account = (await served.chat(temperature=0.9)).json()["ponder"]
        assert account["plan"]["parameters"]["first"] == "sample"
        assert [branch.temperature for branch in served.engine.branches] == [None] * 4
        direct = await served.client.put(PATH, content=scripted(hard=0.1))
        assert direct.status_code == 200
        await served.chat(temperature=0.9)
        assert served.engine.branches[-1].prompt.request["temperature"] == 0.9
        await served.chat()
        assert served.engine.branches[-1].prompt.request["temperature"] == 0.0


async def test_a_budget_is_a_hard_cap(serve, tmp_path) -> None:
    async with serve(["It is 42 I think."] * 9, policy_dir=tmp_path / "policies") as served:
        await served.client.put(PATH, content=scripted(hard=0.7))
        account = (await served.chat(ponder={"budget": {"tokens": 12}})).json()["ponder"]
        assert account["tokens"]["decoded"] <= 12
        assert account["stop_reason"] == "budget_tokens"
