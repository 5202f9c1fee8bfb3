"""A pool keeps what was drawn, whatever stops it, and replays strategies with their own code at the cost that they would have had."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from adapters.training.data import DatasetQuestion
from app.engine.scripted import SMALL, ScriptedEngine
from app.lab.calibration.drawing import Drawer
from app.lab.calibration.pool import Drawn, How, Pool, PoolRefused, Sample, read_pool
from app.lab.calibration.questions import Question
from app.lab.calibration.replay import JUDGE, replay
from app.lab.calibration.trajectories import ladder, trajectory
from app.lab.grading import AnswerGrader
from app.main import running
from app.request import Caller, InferenceRequest
from app.settings import Settings
from strategies.answers.equivalence import Equivalence
from strategies.core.context import StrategyContext
from strategies.core.errors import UnsupportedTask
from strategies.core.values import StopReason

HOW = How(
    model="scripted", adapter=None, architecture=asdict(SMALL), samples=8, temperature=0.7, max_tokens=64, verifier="hash"
)
TEXTS = ["It is 41.", "42", "So 42.", "I think that it is 42.", "Well, 42 it is.", "It is 41.", "42.", "= 42"]


def sample(text: str, score: float | None = None) -> Sample:
    words = text.split()
    return Sample(
        text=text, token_ids=tuple(range(len(words))), lengths=tuple(len(word) + 1 for word in words),
        logprobs=(-0.1,) * len(words), finish_reason="stop", stop_reason=None, cached=32, is_right="42" in text, score=score,
    )  # fmt: skip


def drawn(key: str = "one", texts: list[str] = TEXTS) -> Drawn:
    samples = tuple(sample(text, 0.9 if "41" in text else 0.1) for text in texts)
    return Drawn(
        key=key, question="17 + 25?", kind="math", task="sums", bin=1, prefix=tuple(range(40)), greedy=samples[0],
        samples=samples, verify_flops=800,
    )  # fmt: skip


@pytest.fixture
def context():
    equivalence = Equivalence()
    yield StrategyContext(equivalence=equivalence, vocab_size=1000)
    equivalence.close()


@asynccontextmanager
async def serving(tmp_path: Path, script) -> AsyncIterator:
    settings = Settings(adapter_dir=tmp_path / "store", shipped_adapters=False)
    async with running(settings, ScriptedEngine(script)) as service:
        yield service


@pytest.mark.anyio
async def test_a_pool_is_drawn_and_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    questions = [
        DatasetQuestion(messages=[{"role": "user", "content": f"{n} + 25?"}], answer="42", task="sums", bin=1) for n in range(5)
    ]
    judging = AnswerGrader()
    told: list[tuple[int, int]] = []
    try:
        async with serving(tmp_path, lambda prompt, serial: TEXTS[serial % 8]) as service:
            drawer = Drawer(service, None, None, judging, HOW)
            await drawer.fill(Pool(path, HOW), questions[:3], at_once=2, report=lambda *_: None)
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) - 40])  # killed in the middle of the third line
            pool = Pool(path, HOW)
            assert len(pool.drawn) == 2
            await drawer.fill(pool, questions, at_once=2, report=lambda *counts: told.append(counts))
    finally:
        judging.close()
    how, found = read_pool(path)
    assert how == HOW
    assert {one.key for one in found} == {question.key for question in questions}
    assert told[-1] == (5, 5)
    for one in found:
        assert len(one.samples) == 8
        assert (one.task, one.bin, one.kind) == ("sums", 1, "math")
        texts = [one.greedy.text, *(each.text for each in one.samples)]
        assert [one.greedy.is_right, *(each.is_right for each in one.samples)] == ["42" in text for text in texts]
        assert all(len(each.logprobs) == len(each.token_ids) > 0 for each in one.samples)


def test_answers_drawn_in_another_way_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    Pool(path, HOW).add(drawn())
    assert Pool(path, HOW).drawn == {"one": drawn()}
    with pytest.raises(PoolRefused, match="samples: 8, not 16"):
        Pool(path, HOW.model_copy(update={"samples": 16}))
    path.write_text("no pool\n")
    with pytest.raises(PoolRefused, match="no pool"):
        Pool(path, HOW)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("strategy", "params"),
    [
        ("direct", {}),
        ("best_of_n", {"n": 8, "verifier": "majority"}),
        ("best_of_n", {"n": 4, "verifier": "likelihood"}),
        ("self_consistency", {"n": 8, "confidence": 1.0}),
        ("self_consistency", {"n": 8, "schedule": "waves"}),
    ],
)
async def test_what_is_replayed_is_what_was_served(
    tmp_path: Path, context: StrategyContext, strategy: str, params: dict
) -> None:
    """The same answers in the same order: the same choice, the same tokens, the same FLOPs."""
    async with serving(tmp_path, lambda prompt, serial: TEXTS[serial % 8]) as service:
        body = {"messages": [{"role": "user", "content": "17 + 25?"}]}
        request = InferenceRequest(
            id="a", bodies=(body,), is_chat=True, question="17 + 25?", num_chars=8, strategy=strategy, parameters=params
        )
        async with service.open(request, Caller("someone")) as session:
            outcome = await session.run(lambda *_: None)
            [task], meter = session.rendered.tasks, session.meter
            [result] = outcome.results
    pool = drawn().model_copy(update={"prefix": task.prefix, "kind": task.kind})
    samples = tuple(one.model_copy(update={"cached": 0}) for one in pool.samples)
    uncached = Question(pool.model_copy(update={"samples": samples, "greedy": samples[0]}), HOW)
    replayed = await replay(uncached, strategy, params, context)
    assert replayed.is_right == ("42" in result.chosen[0].candidate.text)
    assert replayed.stop_reason == outcome.stop_reason
    assert (replayed.tokens, replayed.flops) == (meter.generated_tokens, meter.total_flops + meter.saved["cache"])


WRONG = "1 + 1 = 2\n20 / 3 = 5\nand 5 + 1 = 6\nso it is 6"
"""An answer whose second line is false, in a way that no calculator puts right."""


def slips(prompt: str, serial: int) -> str:
    """Writes a false line once more, of which the result is put right, and goes on from there."""
    if prompt.endswith("= 4"):
        return "\nso it is 4"
    return "\n2 + 2 = 3\nso it is 3" if prompt.endswith("= 2") else WRONG


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ["backtracking", "adaptive"])
async def test_what_is_mended_in_a_pool_is_what_is_mended_when_served(
    tmp_path: Path, context: StrategyContext, strategy: str
) -> None:
    """The later attempts are drawn whole and kept, so that a replay can cut them where a server would."""
    how = HOW.model_copy(update={"samples": 2, "attempts": 4, "verifier": None})
    asked = DatasetQuestion(messages=[{"role": "user", "content": "2 + 2?"}], answer="4")
    params = {"n": 1, "attempts": 4}
    judging = AnswerGrader()
    try:
        async with serving(tmp_path / "a", slips) as service:
            found = await Drawer(service, None, None, judging, how).draw(asked)
    finally:
        judging.close()
    assert [one.text.strip().partition("\n")[0] for one in found.greedy.later] == ["2 + 2 = 3", "so it is 4"]
    assert [one.given for one in found.greedy.later] == ["", " 4"]
    assert [one.is_right for one in (found.greedy, *found.greedy.later)] == [False, False, True]
    assert not any(one.later for one in found.samples)
    async with serving(tmp_path / "b", slips) as service:
        body = {"messages": [{"role": "user", "content": "2 + 2?"}]}
        request = InferenceRequest(
            id="a", bodies=(body,), is_chat=True, question="2 + 2?", num_chars=6, strategy=strategy, parameters=params
        )
        async with service.open(request, Caller("someone")) as session:
            outcome = await session.run(lambda *_: None)
            meter = session.meter
    assert outcome.results[0].chosen[0].candidate.text == "1 + 1 = 2\n2 + 2 = 4\nso it is 4"
    replayed = await replay(Question(found, how), strategy, params, context)
    assert replayed.is_right
    assert (replayed.tokens, replayed.flops, replayed.num_drawn) == (meter.generated_tokens, meter.total_flops, 3)


@pytest.mark.anyio
async def test_the_waves_of_a_search_are_looked_at_one_by_one(tmp_path: Path, context: StrategyContext) -> None:
    """After each what would be seen, answered and paid; where nothing is to be mended, the first costs what a direct answer does."""
    how = HOW.model_copy(update={"samples": 3, "mended": 3, "attempts": 4, "verifier": None})
    asked = DatasetQuestion(messages=[{"role": "user", "content": "2 + 2?"}], answer="4")
    judging = AnswerGrader()
    try:
        async with serving(tmp_path, slips) as service:
            found = await Drawer(service, None, None, judging, how).draw(asked)
    finally:
        judging.close()
    assert ladder(4) == [1, 2, 4]
    assert ladder(7) == [1, 2, 4]
    stages = await trajectory(Question(found, how), 0, ladder(4), context)
    assert [stage.evidence.answers for stage in stages] == ladder(4)
    assert [stage.is_right for stage in stages] == [True, True, True]
    assert [stage.flops for stage in stages] == sorted(stage.flops for stage in stages)
    easy = found.greedy.later[-1].model_copy(update={"text": "it is 4"})
    same = easy.model_dump(exclude={"said", "given", "given_ids", "text", "lengths"})
    clean = Sample(**same, text="it is 4", lengths=(7, *[0] * (len(easy.lengths) - 1)))
    question = Question(found.model_copy(update={"greedy": clean}), how)
    [stage] = await trajectory(question, 0, [1], context)
    assert stage.flops == question.replay_greedy().flops


@pytest.mark.anyio
async def test_branches_that_are_left_have_come_as_far_as_those_that_were_waited_for(context: StrategyContext) -> None:
    texts = ["42", "42", "42", "42", *["a long way to say that it may well be 42"] * 4]
    replayed = await replay(Question(drawn(texts=texts), HOW), "self_consistency", {"n": 8}, context)
    assert replayed.stop_reason is StopReason.SETTLED
    assert replayed.num_drawn == 8
    assert replayed.tokens == 8  # one each, though the long ones would have had ten


@pytest.mark.anyio
async def test_recorded_scores_choose_and_are_charged(context: StrategyContext) -> None:
    question = Question(drawn(), HOW)
    params = {"n": 4, "verifier": {"reward_model": JUDGE}}
    replayed = await replay(question, "best_of_n", params, context)
    assert not replayed.is_right  # the pool's verifier prefers 41
    assert replayed.verified == 400  # half of what all eight cost
    shuffled = [await replay(question, "best_of_n", {**params, "n": 1}, context, seed) for seed in range(20)]
    assert {one.is_right for one in shuffled} == {True, False}


@pytest.mark.anyio
async def test_what_is_not_in_the_pool_is_refused(context: StrategyContext) -> None:
    question = Question(drawn(), HOW)
    for strategy, params in [
        ("best_of_n", {"n": 9}),
        ("best_of_n", {"n": 2, "verifier": "self_certainty"}),
        ("beam_search", {"n": 2}),
        ("best_of_n", {"n": 2, "verifier": {"reward_model": "other"}}),
    ]:
        with pytest.raises((UnsupportedTask, BaseExceptionGroup)):
            await replay(question, strategy, params, context)
    unjudged = Question(drawn().model_copy(update={"samples": tuple(sample(text) for text in TEXTS)}), HOW)
    with pytest.raises(UnsupportedTask, match="without a verifier"):
        await replay(unjudged, "best_of_n", {"n": 2, "verifier": {"reward_model": JUDGE}}, context)
