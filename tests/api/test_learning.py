"""A server corrects its estimates of difficulty by its own answers and by feedback, tells so, and knows it after a restart."""

import pytest

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
