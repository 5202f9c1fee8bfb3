"""Callers say whether an answer was right, and the metrics show whether the policy still fits."""

import pytest

from adapters.training.data import read_questions
from tests.example_policies import policy

pytestmark = pytest.mark.anyio


async def give_feedback(served, trace_id: str, *, correct: bool, **how: object):
    return await served.client.post("/v1/feedback", json={"trace_id": trace_id, "correct": correct}, **how)


async def count(served, line: str) -> float:
    """The value of the series whose line begins so; 0 where there is none."""
    text = (await served.client.get("/metrics")).text
    return sum(float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(line))


async def test_a_confirmed_answer_becomes_a_question_to_calibrate_with(serve, tmp_path) -> None:
    """The question is appended to the file with its confirmed answer."""
    path = tmp_path / "feedback" / "questions.jsonl"
    async with serve(feedback_path=path, policy_dir=tmp_path, learning=False) as served:
        await served.client.put("/v1/policies/scripted", content=policy(model="scripted", hard=0.7).model_dump_json())
        reply = (await served.chat()).json()["ponder"]
        given = await give_feedback(served, reply["trace_id"], correct=True)
        assert given.json() == {"object": "ponder.feedback", "trace_id": reply["trace_id"], "correct": True, "kept": True}
        assert (await give_feedback(served, reply["trace_id"], correct=True)).json()[
            "kept"
        ] is False  # said twice, counted once
        assert (await give_feedback(served, reply["trace_id"], correct=False)).status_code == 400
        wrong = (await served.chat()).json()["ponder"]
        assert (await give_feedback(served, wrong["trace_id"], correct=False)).json()["kept"] is False
        series = 'ponder_outcomes_total{adapter="",bin="4",model="scripted",outcome="%s",source="feedback"}'
        assert [await count(served, series % outcome) for outcome in ("right", "wrong")] == [1, 1]
        others = [await count(served, (series % "right").replace('bin="4"', f'bin="{number}"')) for number in (1, 2, 3, 5)]
        assert others == [0, 0, 0, 0]  # on the page, so that their first outcome has a rate
    [question] = read_questions(path)
    assert question.messages[-1].content
    assert (question.answer, question.kind, question.bin) == (reply["candidates"][0]["answer"], "math", 4)


async def test_without_a_file_no_prompt_is_kept(serve) -> None:
    """The trace then holds no question."""
    async with serve() as served:
        trace_id = (await served.chat()).json()["ponder"]["trace_id"]
        assert served.app.state.pools.first.observers.traces.find("anonymous", trace_id).example is None
        assert (await give_feedback(served, trace_id, correct=True)).json()["kept"] is False


async def test_feedback_on_another_key_s_answer_is_refused(serve) -> None:
    """For another key the trace does not exist."""
    async with serve(api_keys=("one", "two")) as served:
        mine, theirs = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
        reply = await served.client.post(
            "/v1/chat/completions", headers=mine,
            json={"model": "scripted", "messages": [{"role": "user", "content": "What is 17 + 25?"}]},
        )  # fmt: skip
        trace_id = reply.json()["ponder"]["trace_id"]
        assert (await give_feedback(served, trace_id, correct=True, headers=theirs)).status_code == 404
        assert (await give_feedback(served, trace_id, correct=True, headers=mine)).status_code == 200
        assert (await give_feedback(served, trace_id, correct=True)).status_code == 401


async def test_predicted_difficulty_and_known_outcomes_are_exported(serve, tmp_path) -> None:
    """Difficulty before and after, agreement, and outcomes by exact verifiers are counted, also where the caller names the strategy."""
    async with serve(policy_dir=tmp_path, learning=False) as served:
        await served.client.put(
            "/v1/policies/scripted", content=policy(model="scripted", hard=0.65, right=0.95).model_dump_json()
        )
        await served.chat()
        who = 'adapter="",'
        for moment, tenth in (("before", "0.7"), ("expected", "0.7"), ("foreseen", "0.7"), ("after", "0.1")):
            series = f'ponder_difficulty_bucket{{{who}model="scripted",moment="{moment}",le="{tenth}"}}'
            assert await count(served, series) == 1
        await served.chat(ponder={"strategy": "best_of_n", "n": 2, "verifier": {"number": 42}})
        await served.chat(ponder={"strategy": "best_of_n", "n": 2, "verifier": {"number": 7}})
        series = 'ponder_outcomes_total{adapter="",bin="4",model="scripted",outcome="%s",source="rule"}'
        assert [await count(served, series % outcome) for outcome in ("right", "wrong")] == [1, 1]
        for name in ("expected", "foreseen"):  # the second is deprecated
            series = f'ponder_outcomes_{name}_total{{adapter="",bin="4",model="scripted",source="rule"}}'
            assert await count(served, series) == pytest.approx(2 * 0.65)  # the difficulty of both answers
        assert await count(served, "ponder_agreement_count") > 0
