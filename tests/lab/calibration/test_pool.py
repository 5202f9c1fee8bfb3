"""A pool keeps its entries whatever stops it, and replays strategies with their own code at the cost that they would have had."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.training.data import DatasetQuestion
from app.engine.scripted import SMALL, ScriptedEngine
from app.lab.calibration.pool import Pool, PoolRefused, read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.calibration.replay import RECORDED_VERIFIER, replay
from app.lab.calibration.sampling import PoolSampler
from app.lab.calibration.trajectories import trajectory, wave_sizes
from app.lab.grading import AnswerGrader
from app.lab.service import LabService
from app.lifespan import running
from app.request import Caller, InferenceRequest
from app.routing.pool_file import Continuation, PoolEntry, PoolSettings, Sample
from app.settings import Settings
from strategies.answers.equivalence import Equivalence
from strategies.core.errors import UnsupportedTask
from strategies.core.values import StopReason
from strategies.core.verifier import StrategyContext

SETTINGS = PoolSettings(
    model="scripted", adapter=None, architecture=SMALL.to_dict(), samples=8, temperature=0.7, max_tokens=64, verifier="hash"
)
TEXTS = ["It is 41.", "42", "So 42.", "I think that it is 42.", "Well, 42 it is.", "It is 41.", "42.", "= 42"]


def test_a_pool_of_the_first_version_has_the_same_settings() -> None:
    """It named the sizes of a dense model."""
    sizes = {
        "num_layers": 2, "hidden_size": 64, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "intermediate_size": 128,
        "vocab_size": 1000, "has_gated_mlp": True, "sliding_window": None, "lora_parameters": 0,
    }  # fmt: skip
    assert PoolSettings.model_validate({**SETTINGS.model_dump(exclude={"alternatives"}), "architecture": sizes}) == SETTINGS


def sample(text: str, score: float | None = None) -> Sample:
    words = text.split()
    return Sample(
        text=text, token_ids=tuple(range(len(words))), lengths=tuple(len(word) + 1 for word in words),
        logprobs=(-0.1,) * len(words), finish_reason="stop", stop_reason=None, cached=32, is_right="42" in text, score=score,
    )  # fmt: skip


def entry(key: str = "one", texts: list[str] = TEXTS) -> PoolEntry:
    samples = tuple(sample(text, 0.9 if "41" in text else 0.1) for text in texts)
    return PoolEntry(
        key=key, question="17 + 25?", kind="math", task="sums", bin=1, prefix=tuple(range(40)), greedy=samples[0],
        samples=samples, verify_flops=800,
    )  # fmt: skip


@pytest.fixture
def context():
    equivalence = Equivalence()
    yield StrategyContext(equivalence=equivalence, vocab_size=1000)
    equivalence.close()


@asynccontextmanager
async def serving(tmp_path: Path, script, **engine) -> AsyncIterator:
    settings = Settings(adapter_dir=tmp_path / "store", shipped_adapters=False)
    async with running(settings, ScriptedEngine(script, **engine)) as pools:
        yield pools.first


async def sampled(tmp_path: Path, script, settings: PoolSettings, **engine) -> PoolEntry:
    """Return the answers of a scripted engine to one question, as `ponder calibrate` samples them."""
    question = DatasetQuestion(messages=[{"role": "user", "content": "17 + 25?"}], answer="42")
    with AnswerGrader() as grader:
        async with serving(tmp_path / "sampling", script, **engine) as service:
            return await PoolSampler(LabService(service), None, None, grader, settings).sample(question)


async def served(tmp_path: Path, script, strategy: str, params: dict, **engine):
    """Return the outcome of a request for the same question, and its meter."""
    async with serving(tmp_path / "served", script, **engine) as service:
        body = {"messages": [{"role": "user", "content": "17 + 25?"}]}
        request = InferenceRequest(
            id="a", bodies=(body,), is_chat=True, question="17 + 25?", num_chars=8, strategy=strategy, parameters=params
        )
        async with service.open(request, Caller("someone")) as session:
            return await session.run(lambda *_: None), session.meter


def uncached(one: PoolEntry) -> PoolEntry:
    """Return an entry whose branches all compute the prompt, as the FLOPs of a server with those that its cache saved."""
    samples = tuple(sample.model_copy(update={"cached": 0}) for sample in one.samples)
    return one.model_copy(update={"samples": samples, "greedy": one.greedy.model_copy(update={"cached": 0})})


@pytest.mark.anyio
async def test_a_pool_is_filled_and_resumes_where_it_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    questions = [
        DatasetQuestion(messages=[{"role": "user", "content": f"{n} + 25?"}], answer="42", task="sums", bin=1) for n in range(5)
    ]
    grader = AnswerGrader()
    reports: list[tuple[int, int]] = []
    try:
        async with serving(tmp_path, lambda prompt, serial: TEXTS[serial % 8]) as service:
            sampler = PoolSampler(LabService(service), None, None, grader, SETTINGS)
            await sampler.fill(Pool(path, SETTINGS), questions[:3], at_once=2, report=lambda *_: None)
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) - 40])  # a kill in the middle of the third line
            pool = Pool(path, SETTINGS)
            assert len(pool.entries) == 2
            await sampler.fill(pool, questions, at_once=2, report=lambda *counts: reports.append(counts))
    finally:
        grader.close()
    settings, found = read_pool(path)
    assert settings == SETTINGS
    assert {one.key for one in found} == {question.key for question in questions}
    assert reports[-1] == (5, 5)
    for one in found:
        assert len(one.samples) == 8
        assert (one.task, one.bin, one.kind) == ("sums", 1, "math")
        texts = [one.greedy.text, *(each.text for each in one.samples)]
        assert [one.greedy.is_right, *(each.is_right for each in one.samples)] == ["42" in text for text in texts]
        assert all(len(each.logprobs) == len(each.token_ids) > 0 for each in one.samples)


def test_answers_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    Pool(path, SETTINGS).add(entry())
    assert Pool(path, SETTINGS).entries == {"one": entry()}
    with pytest.raises(PoolRefused, match="samples: 8, not 16"):
        Pool(path, SETTINGS.model_copy(update={"samples": 16}))
    path.write_text("no pool\n")
    with pytest.raises(PoolRefused, match="no pool"):
        Pool(path, SETTINGS)


def test_a_pool_with_the_keys_of_an_older_version_resumes(tmp_path: Path) -> None:
    """Older versions wrote `mended`, `later`, `said`, `given` and `given_ids`."""
    settings = SETTINGS.model_copy(update={"backtracked": 2, "attempts": 3})
    fields = sample("is 42").model_dump(exclude={"score", "continuations", "margins", "entropies"})
    continuation = Continuation(**fields, kept_tokens=3, inserted=" 4", inserted_ids=(7,))
    expected = entry().model_copy(update={"greedy": sample("It is 41.").model_copy(update={"continuations": (continuation,)})})
    path = tmp_path / "pool.jsonl"
    Pool(path, settings).add(expected)
    text = path.read_text()
    for old, new in {
        "mended": "backtracked", "later": "continuations", "said": "kept_tokens", "given": "inserted", "given_ids": "inserted_ids",
    }.items():  # fmt: skip
        assert f'"{new}":' in text
        text = text.replace(f'"{new}":', f'"{old}":')
    path.write_text(text)
    assert Pool(path, settings).entries == {"one": expected}


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
async def test_a_replay_does_what_a_server_does(tmp_path: Path, context: StrategyContext, strategy: str, params: dict) -> None:
    """From the same answers in the same order come the same choice, the same tokens and the same FLOPs."""
    async with serving(tmp_path, lambda prompt, serial: TEXTS[serial % 8]) as service:
        body = {"messages": [{"role": "user", "content": "17 + 25?"}]}
        request = InferenceRequest(
            id="a", bodies=(body,), is_chat=True, question="17 + 25?", num_chars=8, strategy=strategy, parameters=params
        )
        async with service.open(request, Caller("someone")) as session:
            outcome = await session.run(lambda *_: None)
            [task], meter = session.rendered.tasks, session.meter
            [result] = outcome.results
    pool = entry().model_copy(update={"prefix": task.prefix, "kind": task.kind})
    samples = tuple(one.model_copy(update={"cached": 0}) for one in pool.samples)
    uncached = PooledQuestion(pool.model_copy(update={"samples": samples, "greedy": samples[0]}), SETTINGS)
    replayed = await replay(uncached, strategy, params, context)
    assert replayed.right == ("42" in result.chosen[0].candidate.text)
    assert replayed.stop_reason == outcome.stop_reason
    assert (replayed.tokens, replayed.flops) == (meter.generated_tokens, meter.total_flops + meter.saved["cache"])


CONFIDENT = SETTINGS.model_copy(update={"alternatives": 5, "verifier": None})
UNSURE = [
    "undoubtedly 42", "certainly 42", "evidently it is 41", "clearly 42", "I am so so so sure of 41", "er it is 41 or so", "so it is 41",
    "it is certainly 42",
]  # fmt: skip
"""Answers by a model that is the surer, the longer its words are: the scripted engine makes all alternatives of long words improbable."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    "params",
    [
        {"weights": "lowest_group", "confidence": 1.0},
        {"weights": "tail", "keep": 0.5},
        {"keep": 0.25, "confidence": 1.0},
        {"cut": 0.5, "warm_up": 2, "confidence": 1.0},
        {"cut": 0.9, "warm_up": 3, "weights": "bottom_groups", "consensus": 0.95},
        {"cut": 0.1, "warm_up": 2, "schedule": "waves"},
    ],
)
async def test_votes_by_confidence_are_replayed_as_they_are_served(
    tmp_path: Path, context: StrategyContext, params: dict
) -> None:
    """The pool has the confidence in each token, which weighs votes and cuts answers at the same tokens as in a server."""
    found = await sampled(tmp_path, lambda prompt, serial: UNSURE[serial % 8], CONFIDENT)
    texts = [one.text for one in found.samples]
    params = {"n": 8, "alternatives": 5, "group_tokens": 2, **params}
    outcome, meter = await served(tmp_path, lambda prompt, serial: texts[serial], "self_consistency", params)
    [result] = outcome.results
    replayed = await replay(PooledQuestion(uncached(found), CONFIDENT), "self_consistency", params, context)
    assert replayed.right == ("42" in result.chosen[0].candidate.text)
    assert (replayed.stop_reason, replayed.num_drawn) == (outcome.stop_reason, meter.branches["drawn"])
    assert (replayed.tokens, replayed.flops) == (meter.generated_tokens, meter.total_flops + meter.saved["cache"])
    if "cut" in params:
        whole = await replay(PooledQuestion(found, CONFIDENT), "self_consistency", {"n": 8, "confidence": 1.0}, context)
        assert replayed.tokens < whole.tokens


@pytest.mark.anyio
async def test_the_first_tokens_of_the_greedy_answer_have_margins_and_entropies(tmp_path: Path) -> None:
    one = await sampled(tmp_path, lambda prompt, serial: "It is 42.", SETTINGS.model_copy(update={"first_tokens": 2}))
    assert len(one.greedy.margins) == len(one.greedy.entropies) == 2
    assert all(value > 0 for value in (*one.greedy.margins, *one.greedy.entropies))
    assert not any(each.margins or each.entropies for each in one.samples)


@pytest.mark.anyio
async def test_the_confidence_of_each_token_is_recorded(tmp_path: Path) -> None:
    """The mean of the log-probabilities of the most probable tokens, without its sign."""
    found = await sampled(tmp_path, "so 42", CONFIDENT)
    # the scripted engine gives a word of k letters -k / 10, and its alternatives one less each
    assert {one.confidences for one in found.answers} == {(2.2, 2.2)}
    assert (await sampled(tmp_path, "so 42", SETTINGS.model_copy(update={"verifier": None}))).greedy.confidences == ()


@pytest.mark.anyio
async def test_confidences_that_the_pool_does_not_hold_are_refused(tmp_path: Path, context: StrategyContext) -> None:
    with_confidences = PooledQuestion(await sampled(tmp_path, "so 42", CONFIDENT), CONFIDENT)
    for question, params, message in [
        (PooledQuestion(entry(), SETTINGS), {"cut": 0.5}, "no confidences"),
        (with_confidences, {"cut": 0.5, "alternatives": 6}, "over 5 alternatives, not over 6"),
        (with_confidences, {"weights": "tail", "alternatives": 4}, "over 5 alternatives, not over 4"),
        (with_confidences, {"weights": "self_certainty"}, "which self_certainty reads"),
    ]:
        with pytest.raises(UnsupportedTask, match=message):
            await replay(question, "self_consistency", {"n": 4, **params}, context)
    with pytest.raises(UnsupportedTask, match="which self_certainty reads"):
        await replay(with_confidences, "best_of_n", {"n": 4, "verifier": "self_certainty"}, context)


@pytest.mark.anyio
async def test_only_what_follows_the_thinking_is_an_answer_in_a_replay(tmp_path: Path, context: StrategyContext) -> None:
    """The thinking is neither read nor filtered, and an answer that ended in it has no vote, as in a server."""
    texts = ["1 + 1 = 3 </think> 42", "41", "41 </think> 42"]
    marks = ("<think>", "</think>")
    settings = SETTINGS.model_copy(update={"samples": 3, "verifier": None})
    found = await sampled(tmp_path, lambda prompt, serial: texts[serial % 3], settings, thinking=marks)
    assert found.thinking is not None
    assert [("</think>" in one.text) for one in found.answers] == [one.is_right for one in found.answers]
    question = PooledQuestion(found, settings)
    replayed = await replay(question, "self_consistency", {"n": 3, "filter": "equations", "confidence": 1.0}, context)
    assert replayed.right
    assert {question.task.read(question.candidate(one, 0)).strip() for one in found.samples} == {"42", ""}


WRONG = "1 + 1 = 2\n20 / 3 = 5\nand 5 + 1 = 6\nso it is 6"
"""An answer whose second line is false in a way that the calculator cannot correct."""


def slips(prompt: str, serial: int) -> str:
    """Write another false line first, whose result the calculator corrects, and continue from there."""
    if prompt.endswith("= 4"):
        return "\nso it is 4"
    return "\n2 + 2 = 3\nso it is 3" if prompt.endswith("= 2") else WRONG


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ["backtracking", "adaptive"])
async def test_an_answer_backtracks_in_a_replay_as_it_does_when_served(
    tmp_path: Path, context: StrategyContext, strategy: str
) -> None:
    """The continuations are generated to their end, so that a replay can cut them where a server would."""
    settings = SETTINGS.model_copy(update={"samples": 2, "attempts": 4, "verifier": None})
    question = DatasetQuestion(messages=[{"role": "user", "content": "2 + 2?"}], answer="4")
    params = {"n": 1, "attempts": 4}
    grader = AnswerGrader()
    try:
        async with serving(tmp_path / "a", slips) as service:
            found = await PoolSampler(LabService(service), None, None, grader, settings).sample(question)
    finally:
        grader.close()
    assert [one.text.strip().partition("\n")[0] for one in found.greedy.continuations] == ["2 + 2 = 3", "so it is 4"]
    assert [one.inserted for one in found.greedy.continuations] == ["", " 4"]
    assert [one.is_right for one in (found.greedy, *found.greedy.continuations)] == [False, False, True]
    assert not any(one.continuations for one in found.samples)
    async with serving(tmp_path / "b", slips) as service:
        body = {"messages": [{"role": "user", "content": "2 + 2?"}]}
        request = InferenceRequest(
            id="a", bodies=(body,), is_chat=True, question="2 + 2?", num_chars=6, strategy=strategy, parameters=params
        )
        async with service.open(request, Caller("someone")) as session:
            outcome = await session.run(lambda *_: None)
            meter = session.meter
    assert outcome.results[0].chosen[0].candidate.text == "1 + 1 = 2\n2 + 2 = 4\nso it is 4"
    replayed = await replay(PooledQuestion(found, settings), strategy, params, context)
    assert replayed.right
    assert (replayed.tokens, replayed.flops, replayed.num_drawn) == (meter.generated_tokens, meter.total_flops, 3)


@pytest.mark.anyio
async def test_a_trajectory_records_each_wave_of_a_search(tmp_path: Path, context: StrategyContext) -> None:
    """Each record has evidence, answer and cost. Without a false line the first wave costs what a direct answer costs."""
    settings = SETTINGS.model_copy(update={"samples": 3, "backtracked": 3, "attempts": 4, "verifier": None})
    question = DatasetQuestion(messages=[{"role": "user", "content": "2 + 2?"}], answer="4")
    grader = AnswerGrader()
    try:
        async with serving(tmp_path, slips) as service:
            found = await PoolSampler(LabService(service), None, None, grader, settings).sample(question)
    finally:
        grader.close()
    assert wave_sizes(4) == [1, 2, 4]
    assert wave_sizes(7) == [1, 2, 4]
    records = await trajectory(PooledQuestion(found, settings), 0, wave_sizes(4), context)
    assert [record.evidence.answers for record in records] == wave_sizes(4)
    assert [record.right for record in records] == [1, 1, 1]
    assert [record.flops for record in records] == sorted(record.flops for record in records)
    easy = found.greedy.continuations[-1].model_copy(update={"text": "it is 4"})
    same = easy.model_dump(exclude={"kept_tokens", "inserted", "inserted_ids", "text", "lengths"})
    clean = Sample(**same, text="it is 4", lengths=(7, *[0] * (len(easy.lengths) - 1)))
    question = PooledQuestion(found.model_copy(update={"greedy": clean}), settings)
    [record] = await trajectory(question, 0, [1], context)
    assert record.flops == question.replay_greedy().flops


@pytest.mark.anyio
async def test_unfinished_branches_are_charged_up_to_the_last_finished_one(context: StrategyContext) -> None:
    texts = ["42", "42", "42", "42", *["a long way to say that it may well be 42"] * 4]
    replayed = await replay(PooledQuestion(entry(texts=texts), SETTINGS), "self_consistency", {"n": 8}, context)
    assert replayed.stop_reason is StopReason.SETTLED
    assert replayed.num_drawn == 8
    assert replayed.tokens == 8  # one token each, though the long answers have ten


@pytest.mark.anyio
async def test_recorded_scores_choose_and_are_charged(context: StrategyContext) -> None:
    question = PooledQuestion(entry(), SETTINGS)
    params = {"n": 4, "verifier": {"reward_model": RECORDED_VERIFIER}}
    replayed = await replay(question, "best_of_n", params, context)
    assert not replayed.right  # the recorded scores prefer 41
    assert replayed.verified == 400  # half of what all eight cost
    shuffled = [await replay(question, "best_of_n", {**params, "n": 1}, context, seed) for seed in range(20)]
    assert {one.right for one in shuffled} == {0, 1}


@pytest.mark.anyio
async def test_a_replay_of_what_the_pool_does_not_hold_is_refused(context: StrategyContext) -> None:
    question = PooledQuestion(entry(), SETTINGS)
    for strategy, params in [
        ("best_of_n", {"n": 9}),
        ("best_of_n", {"n": 2, "verifier": "self_certainty"}),
        ("beam_search", {"n": 2}),
        ("best_of_n", {"n": 2, "verifier": {"reward_model": "other"}}),
    ]:
        with pytest.raises((UnsupportedTask, BaseExceptionGroup)):
            await replay(question, strategy, params, context)
    without_scores = PooledQuestion(entry().model_copy(update={"samples": tuple(sample(text) for text in TEXTS)}), SETTINGS)
    with pytest.raises(UnsupportedTask, match="without a verifier"):
        await replay(without_scores, "best_of_n", {"n": 2, "verifier": {"reward_model": RECORDED_VERIFIER}}, context)
