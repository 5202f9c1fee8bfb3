"""A server corrects its estimates of difficulty by its own answers and by feedback, tells so, and knows it after a restart."""

import pytest

from tests.example_policies import policy

pytestmark = pytest.mark.anyio


async def difficulty(served, **fields: object) -> dict:
    return (await served.chat(**fields)).json()["ponder"]["difficulty"]


async def judge(served, *, correct: bool) -> None:
    trace_id = (await served.chat()).json()["ponder"]["trace_id"]
    given = await served.client.post("/v1/feedback", json={"trace_id": trace_id, "correct": correct})
    assert given.status_code == 200


async def test_feedback_corrects_both_estimates(serve) -> None:
    """The reply tells by how much, and the metrics page has it by model and moment."""
    async with serve() as served:
        first = await difficulty(served)
        assert first["correction"] == {"before": 0.0, "after": 0.0}
        for _ in range(15):
            await judge(served, correct=True)
        last = await difficulty(served)
        page = (await served.client.get("/metrics")).text
    assert last["before"] < first["before"]
    assert last["correction"]["before"] < -0.1
    assert last["correction"]["after"] < -0.1
    for moment in ("before", "after"):
        labels = f'adapter="",estimator="general",model="scripted",moment="{moment}"'
        for name in ("intercept", "slope", "weight"):
            assert f"ponder_correction_{name}{{{labels}}} " in page


async def test_answers_alone_correct_the_first_estimate(serve) -> None:
    """Nobody says what is right here: the answers agree, so the questions are easier than they seemed."""
    async with serve(["It is 41."]) as served:
        first = await difficulty(served)
        for _ in range(20):
            last = await difficulty(served)
    assert first["after"] < first["before"]
    assert last["correction"]["before"] < -0.1
    assert last["correction"]["after"] == 0


async def test_an_exact_verifier_tells_how_difficult_questions_are(serve) -> None:
    """It finds each first answer right."""
    async with serve(["It is 42."]) as served:
        first = await difficulty(served)
        for _ in range(15):
            await served.chat(ponder={"strategy": "best_of_n", "n": 2, "verifier": {"number": 42}})
        last = await difficulty(served)
    assert last["before"] < first["before"]


async def test_what_was_learned_survives_a_restart(serve, tmp_path) -> None:
    async with serve() as served:
        for _ in range(5):
            await judge(served, correct=False)
    async with serve() as served:
        assert (await difficulty(served))["correction"]["before"] != 0
    text = next((tmp_path / "policies").glob(".*.json")).read_text()
    assert "What" not in text


async def test_learning_is_switched_off(serve, tmp_path) -> None:
    async with serve(learning=False) as served:
        await judge(served, correct=False)
        assert (await difficulty(served))["correction"] is None
    assert not list((tmp_path / "policies").glob(".*"))


async def test_several_prompts_at_once_teach_nothing(serve) -> None:
    """They have one estimate, and it is of one of them."""
    async with serve() as served:
        body = {"model": "scripted", "prompt": ["What is 17 + 25?", "What is 1 + 1?"]}
        for _ in range(5):
            assert (await served.client.post("/v1/completions", json=body)).status_code == 200
        assert (await difficulty(served))["correction"]["before"] == 0


async def test_a_policy_that_outcomes_contradict_is_left_until_somebody_chooses_one(serve, caplog) -> None:
    """The policy says that all is easy, the general estimator that it is hard, and callers that all answers are wrong."""
    path, keys = "/v1/policies/scripted", ("one", "two")
    file = policy(model="scripted", hard=0.001, right=0.999).model_dump_json()
    async with serve(["It is 41."], api_keys=keys, admin_keys=("admin",)) as served:
        admin = {"Authorization": "Bearer admin"}
        await served.client.put(path, content=file, headers=admin)

        async def ask(key: str, **ponder: object) -> dict:
            body = {"model": "scripted", "messages": [{"role": "user", "content": "What is 17 + 25?"}], "ponder": ponder}
            headers = {"Authorization": f"Bearer {key}"}
            reply = (await served.client.post("/v1/chat/completions", json=body, headers=headers)).json()["ponder"]
            if not ponder:
                feedback = {"trace_id": reply["trace_id"], "correct": False}
                await served.client.post("/v1/feedback", json=feedback, headers=headers)
            return reply

        assert (await ask("one", dry_run=True))["plan"]["calibrated"]
        for _ in range(40):
            for key in keys:
                await ask(key)
        left = await ask("one", dry_run=True)
        shown = (await served.client.get(path, headers=admin)).json()
        page = (await served.client.get("/metrics", headers=admin)).text
        await served.client.post(f"{path}/choose", json={"number": 1}, headers=admin)
        chosen = await ask("one", dry_run=True)
    assert not left["plan"]["calibrated"]
    assert "worse than the general ones" in left["plan"]["why"]
    assert shown["drift"]["is_left"]
    assert shown["drift"]["outcomes"] > 0
    assert 'ponder_policy_is_left{adapter="",model="scripted"} 1.0' in page
    assert "calibrate it again" in caplog.text
    assert chosen["plan"]["calibrated"]
