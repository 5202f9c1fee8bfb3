"""A pool keeps what was drawn, whatever stops it, and replays strategies with their own code at the cost that they would have had."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from adapters.training.data import Question as Asked
from app.asks import Ask, Caller
from app.calibration.drawing import Drawer
from app.calibration.pool import Drawn, How, Pool, PoolRefused, Sample, read_pool
from app.calibration.replay import JUDGE, Question
from app.engine.scripted import SMALL, ScriptedEngine
from app.main import running
from app.settings import Settings
from app.training.judging import Judging
from strategies.answers import Equivalence
from strategies.base import StopReason, UnsupportedTask
from strategies.strategy import Tools

HOW = How(
    model="scripted", adapter=None, architecture=asdict(SMALL), samples=8, temperature=0.7, max_tokens=64, verifier="hash"
)
TEXTS = ["It is 41.", "42", "So 42.", "I think that it is 42.", "Well, 42 it is.", "It is 41.", "42.", "= 42"]


def sample(text: str, score: float | None = None) -> Sample:
    words = text.split()
    return Sample(
        text=text, token_ids=tuple(range(len(words))), logprobs=(-0.1,) * len(words), finish_reason="stop", stop_reason=None,
        cached=32, is_right="42" in text, score=score,
    )  # fmt: skip


def drawn(key: str = "one", texts: list[str] = TEXTS) -> Drawn:
    samples = tuple(sample(text, 0.9 if "41" in text else 0.1) for text in texts)
    return Drawn(
        key=key, question="17 + 25?", kind="math", task="sums", bin=1, prefix=tuple(range(40)), greedy=samples[0],
        samples=samples, verify_tokens=80, verify_flops=800,
    )  # fmt: skip


@pytest.fixture
def tools():
    equivalence = Equivalence()
    yield Tools(equivalence=equivalence, vocab_size=1000)
    equivalence.close()


@asynccontextmanager
async def serving(tmp_path: Path, script) -> AsyncIterator:
    settings = Settings(adapter_dir=tmp_path / "store", shipped_adapters=False)
    async with running(settings, ScriptedEngine(script)) as service:
        yield service


@pytest.mark.anyio
async def test_a_pool_is_drawn_and_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    questions = [Asked(messages=[{"role": "user", "content": f"{n} + 25?"}], answer="42", task="sums", bin=1) for n in range(5)]
    judging = Judging()
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
async def test_what_is_replayed_is_what_was_served(tmp_path: Path, tools: Tools, strategy: str, params: dict) -> None:
    """The same answers in the same order: the same choice, the same tokens, the same FLOPs."""
    async with serving(tmp_path, lambda prompt, serial: TEXTS[serial % 8]) as service:
        body = {"messages": [{"role": "user", "content": "17 + 25?"}]}
        ask = Ask(id="a", bodies=(body,), is_chat=True, question="17 + 25?", num_chars=8, strategy=strategy, parameters=params)
        async with service.open(ask, Caller("someone")) as session:
            outcome = await session.run(lambda *_: None)
            [task], meter = session.tasks, session.meter
            [result] = outcome.results
    pool = drawn().model_copy(update={"prefix": task.prefix, "kind": task.kind})
    samples = tuple(one.model_copy(update={"cached": 0}) for one in pool.samples)
    replayed = await Question(pool.model_copy(update={"samples": samples, "greedy": samples[0]}), HOW).replay(
        strategy, params, tools
    )
    assert replayed.is_right == ("42" in result.chosen[0].candidate.text)
    assert replayed.stop_reason == outcome.stop_reason
    assert (replayed.tokens, replayed.flops) == (meter.generated_tokens, meter.total_flops + meter.flops_saved)


@pytest.mark.anyio
async def test_branches_that_are_left_have_come_as_far_as_those_that_were_waited_for(tools: Tools) -> None:
    texts = ["42", "42", "42", "42", *["a long way to say that it may well be 42"] * 4]
    replayed = await Question(drawn(texts=texts), HOW).replay("self_consistency", {"n": 8}, tools)
    assert replayed.stop_reason is StopReason.SETTLED
    assert replayed.num_drawn == 8
    assert replayed.tokens == 8  # one each, though the long ones would have had ten


@pytest.mark.anyio
async def test_recorded_scores_choose_and_are_charged(tools: Tools) -> None:
    question = Question(drawn(), HOW)
    params = {"n": 4, "verifier": {"reward_model": JUDGE}}
    replayed = await question.replay("best_of_n", params, tools)
    assert not replayed.is_right  # the pool's verifier prefers 41
    assert replayed.verified == 400  # half of what all eight cost
    shuffled = [await question.replay("best_of_n", {**params, "n": 1}, tools, seed) for seed in range(20)]
    assert {one.is_right for one in shuffled} == {True, False}


@pytest.mark.anyio
async def test_what_is_not_in_the_pool_is_refused(tools: Tools) -> None:
    question = Question(drawn(), HOW)
    for strategy, params in [
        ("best_of_n", {"n": 9}),
        ("best_of_n", {"n": 2, "verifier": "self_certainty"}),
        ("beam_search", {"n": 2}),
        ("best_of_n", {"n": 2, "verifier": {"reward_model": "other"}}),
    ]:
        with pytest.raises((UnsupportedTask, BaseExceptionGroup)):
            await question.replay(strategy, params, tools)
    unjudged = Question(drawn().model_copy(update={"samples": tuple(sample(text) for text in TEXTS)}), HOW)
    with pytest.raises(UnsupportedTask, match="without a verifier"):
        await unjudged.replay("best_of_n", {"n": 2, "verifier": {"reward_model": JUDGE}}, tools)
