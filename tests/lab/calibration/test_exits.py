"""Early exits are replayed as the strategy makes them, and a threshold is chosen only where it holds on other questions."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.training.data import DatasetQuestion
from app.engine.scripted import SMALL, ScriptedEngine
from app.lab.calibration.exit_choice import THRESHOLDS, ChosenExit, choose, choose_exits, held_out, policy_part
from app.lab.calibration.exit_replays import NO_ANSWER, ExitPerformance, ReplayedExit, replay_exit, replay_length, replays_of
from app.lab.calibration.exit_report import exit_tables
from app.lab.calibration.pool import Pool
from app.lab.calibration.sampling import PoolSampler
from app.lab.calibration.tried_thoughts import PLACES, RecordedTrial, TriedThought, TriedThoughts
from app.lab.grading import AnswerGrader
from app.lab.service import LabService
from app.lifespan import running
from app.routing.pool_file import PoolSettings
from app.settings import Settings
from strategies.answers.equivalence import Equivalence
from strategies.core.values import AnswerKind
from tests.thinkers import MARKS

SETTINGS = PoolSettings(
    model="scripted", adapter=None, architecture=SMALL.to_dict(), samples=2, temperature=0.7, max_tokens=200, attempts=1
)
LINES = (" so it is a b c d e f g", "Then h i j k l m n o p", "Wait, q r s t u v w x y z", "But a b c d e f g h i j k l")
TRIALS = ("1000", "100", "42", "42")
"""The trial answer behind so many lines. The scripted engine is less sure of longer words."""

TURNS = re.compile(r"\n(?=Wait|But|Then)")


def think(prompt: str, _number: int) -> str:
    """Think so many of the lines, and answer 42; whoever tries before the third line gets something wrong."""
    num = 2 + int(re.findall(r"\d+", prompt)[0]) % 3
    said = prompt.rpartition(MARKS[0])[2]
    thinking = "\n".join((*LINES, *LINES)[: 2 * num])
    thought, is_ended, rest = said.partition(MARKS[1])
    if not is_ended:
        return f"{thinking} {MARKS[1]}\n\nIt is 42."[len(said) :]
    if "####" not in rest:
        return "\n\nIt is 42."
    return f"{TRIALS[min(len(TURNS.findall(thought)), 3)]}\nand so on"


def questions(num: int = 4) -> list[DatasetQuestion]:
    return [
        DatasetQuestion(messages=[{"role": "user", "content": f"{n} + 25?"}], answer="42", task="t", bin=1) for n in range(num)
    ]


@asynccontextmanager
async def sampling(tmp_path: Path, script: Callable[[str, int], str] | str, **fields: Any) -> AsyncIterator[tuple[Any, ...]]:
    """A service whose model thinks, a sampler, and its pool, filled."""
    settings = Settings(adapter_dir=tmp_path / "store", shipped_adapters=False)
    engine = ScriptedEngine(script, **fields)
    with AnswerGrader() as grader:
        async with running(settings, engine) as pools:
            service = pools.first
            sampler = PoolSampler(LabService(service), None, None, grader, SETTINGS)
            pool = Pool(tmp_path / "pool.jsonl", SETTINGS)
            await sampler.fill(pool, questions(), at_once=2, report=lambda *_: None)
            yield LabService(service), sampler, [(one, pool.entries[one.key]) for one in questions()], engine


async def try_all(path: Path, sampler: PoolSampler, entries: list[Any], num: int = 1) -> TriedThoughts:
    thoughts = TriedThoughts(path)
    await thoughts.run(sampler, entries, num, at_once=2, report=lambda *_: None)
    return thoughts


@pytest.mark.anyio
@pytest.mark.parametrize("places", list(PLACES))
@pytest.mark.parametrize(
    ("rule", "parameters", "threshold"),
    [
        ("mean", {"confidence": "mean", "threshold": 0.6}, 0.6),
        ("mean", {"confidence": "mean", "threshold": 0.7}, 0.7),
        ("minimum", {"confidence": "minimum", "threshold": 0.8}, 0.8),
        ("geometric", {"confidence": "geometric", "threshold": 0.99}, 0.99),
        ("agreement 2", {"rule": "agreement", "window": 2}, 1.0),
    ],
)
async def test_a_replay_is_what_the_strategy_does(
    tmp_path: Path, places: str, rule: str, parameters: dict[str, Any], threshold: float
) -> None:
    """The same exits, the same answers, the same trials."""
    async with sampling(tmp_path, think, thinking=MARKS) as (service, sampler, entries, _engine):
        thoughts = await try_all(tmp_path / "thoughts.jsonl", sampler, entries)
        tried = thoughts.of([entry.key for _, entry in entries], 1)
        lives = [
            await service.run(
                {"messages": [{"role": "user", "content": question.messages[0].content}], "max_tokens": 200},
                request_id="live", question=question.messages[0].content, kind=AnswerKind.MATH, temperature=0.7,
                strategy="early_exit", parameters={**parameters, "transitions": list(PLACES[places])},
            )
            for question, _ in entries
        ]  # fmt: skip
        equivalence = Equivalence()
        replays = await replays_of(tried, equivalence)
        equivalence.close()
    performance = replays.by_score(places, rule, threshold)
    for number, (live, one) in enumerate(zip(lives, tried, strict=True)):
        [final] = live.result.chosen
        trials = [node for node in live.result.nodes if node.parent is not None and node.score is not None]
        recorded = [trial for trial in one.trials[places] if trial.decided <= performance.thinking[number]]
        has_exit = live.result.stop_reason == "settled"
        assert has_exit == (performance.thinking[number] < one.thinking)
        if has_exit:
            assert final.candidate.num_thinking - 1 == recorded[-1].num_thought
            assert final.score == pytest.approx(recorded[-1].confidences["mean"], abs=1e-4)
            assert [node.answer for node in trials] == [trial.answer for trial in recorded]
            assert sum(node.tokens for node in trials) == performance.trials[number]
        assert one.is_right
    assert (performance.thinking < replays.whole.thinking).any() == (threshold != 0.99)


@pytest.mark.anyio
async def test_thoughts_are_tried_once_and_resume_where_they_were_killed(tmp_path: Path) -> None:
    path = tmp_path / "thoughts.jsonl"
    async with sampling(tmp_path, think, thinking=MARKS) as (_service, sampler, entries, engine):
        before = len(engine.branches)
        await try_all(path, sampler, entries, 2)
        whole = path.read_bytes()
        num_trials = len(engine.branches) - before
        path.write_bytes(whole[: len(whole) - 40])  # a kill in the middle of the last line
        before = len(engine.branches)
        thoughts = await try_all(path, sampler, entries, 2)
        assert 0 < len(engine.branches) - before < num_trials / 4
        assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
        before = len(engine.branches)
        await try_all(path, sampler, entries, 2)
        assert len(engine.branches) == before
    assert len(thoughts.of([entry.key for _, entry in entries], 2)) == 8
    assert len(thoughts.of([entry.key for _, entry in entries], 1)) == 4


@pytest.mark.anyio
async def test_a_model_that_does_not_think_has_no_trials(tmp_path: Path) -> None:
    async with sampling(tmp_path, "42") as (_service, sampler, entries, engine):
        before = len(engine.branches)
        thoughts = await try_all(tmp_path / "thoughts.jsonl", sampler, entries)
        assert len(engine.branches) == before
    assert not thoughts.of([entry.key for _, entry in entries], 1)


@pytest.mark.anyio
async def test_a_thinking_that_never_ends_is_tried_up_to_its_end(tmp_path: Path) -> None:
    """There an exit finds an answer where the whole thinking has none."""

    def endless(prompt: str, number: int) -> str:
        said = prompt.rpartition(MARKS[0])[2]
        return think(prompt, number) if MARKS[1] in said else ("\n".join(LINES * 20))[len(said) :]

    async with sampling(tmp_path, endless, thinking=MARKS) as (_service, sampler, entries, _engine):
        thoughts = await try_all(tmp_path / "thoughts.jsonl", sampler, entries)
        [one, *_] = thoughts.of([entry.key for _, entry in entries], 1)
    assert (one.thinking, one.is_right) == (SETTINGS.max_tokens, False)
    assert one.trials["turns"][-1].is_right
    assert one.trials["turns"][-1].decided <= SETTINGS.max_tokens


def trial(decided: int, *, is_right: bool, confidence: float = 0.5, answer: str | None = "42") -> RecordedTrial:
    return RecordedTrial(
        num_thought=max(decided - 3, 0), decided=decided, tokens=3, text=answer or "", answer=answer, is_right=is_right,
        confidences={"mean": confidence, "geometric": confidence, "minimum": confidence},
    )  # fmt: skip


def thought(*trials: RecordedTrial, thinking: int = 100, is_right: bool = True, key: str = "q") -> TriedThought:
    places = dict.fromkeys(PLACES, trials)
    return TriedThought(key=key, sample=0, kind=AnswerKind.MATH, thinking=thinking, is_right=is_right, trials=places)


probabilities = st.one_of(st.just(NO_ANSWER), st.floats(0, 1))


@given(
    st.lists(st.tuples(st.integers(1, 40), probabilities, st.booleans()), max_size=12),
    st.integers(0, 200),
    st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted),
)
def test_a_higher_threshold_never_exits_earlier(
    steps: list[tuple[int, float, bool]], thinking: int, thresholds: list[float]
) -> None:
    """Nor with fewer trials; and nothing exits behind the end of the thinking."""
    decided, trials = 0, []
    for gap, _, is_right in steps:
        decided += gap
        trials.append(trial(decided, is_right=is_right))
    one, scores = thought(*trials, thinking=thinking), [score for _, score, _ in steps]
    low, high = (replay_exit(one, trials, scores, threshold) for threshold in thresholds)
    assert low.thinking <= high.thinking <= thinking
    assert low.trials <= high.trials <= sum(each.tokens for each in trials)
    shorter, longer = (replay_length(one, trials, 100 * threshold) for threshold in thresholds)
    assert shorter.thinking <= longer.thinking <= thinking


def test_a_trial_without_an_answer_ends_nothing() -> None:
    late = thought(trial(20, is_right=False, answer=None), trial(120, is_right=False), is_right=True)
    assert replay_exit(late, late.trials["turns"], [NO_ANSWER, 1.0], 0.0) == ReplayedExit(is_right=True, thinking=100, trials=6)


def performance(threshold: float | None, accuracy: list[float], thinking: float = 50) -> ExitPerformance:
    return ExitPerformance(threshold, np.array(accuracy), np.full(len(accuracy), thinking), np.full(len(accuracy), 5.0))


def test_the_laxest_threshold_that_is_good_enough_is_chosen() -> None:
    """A laxer one behind one that fails is not, however good it is by chance."""
    every, whole = np.arange(100), performance(None, [1.0] * 100, 100)
    strict, lax = performance(0.9, [1.0] * 100), performance(0.8, [1.0] * 99 + [0.0])
    bad, lucky = performance(0.7, [1.0] * 98 + [0.0] * 2), performance(0.6, [1.0] * 100)
    assert choose([strict, lax, bad, lucky], whole, every) is lax
    assert choose([bad, lucky], whole, every) is None


def test_what_is_told_of_a_choice_is_of_other_questions() -> None:
    """Each fifth is answered with the threshold that the others choose."""
    whole = performance(None, [1.0] * 100, 100)
    good = performance(0.9, [1.0] * 100)
    assert held_out([good], whole).accuracy.mean() == 1
    assert held_out([good], whole).thinking.mean() == 50
    one_loss = performance(0.9, [0.0] + [1.0] * 99)
    tested = held_out([one_loss], whole)
    # four fifths have the loss: 1 of 80 is more than a point, so they choose none; the last fifth has it and is chosen for
    assert tested.accuracy.mean() == pytest.approx(0.99)
    assert tested.thinking.mean() == pytest.approx(90)


@pytest.mark.anyio
async def test_a_threshold_that_tells_right_from_wrong_is_found_and_others_are_not() -> None:
    """Where confidence means nothing, no threshold below certainty is chosen, and the report says so."""
    equivalence = Equivalence()
    knows = [
        thought(trial(20, is_right=False, confidence=0.6), trial(50, is_right=True, confidence=0.97), key=str(n))
        for n in range(60)
    ]
    wrong = [thought(trial(20, is_right=False, confidence=0.9995, answer=str(n)), key=str(n)) for n in range(60)]
    replays = await replays_of(knows, equivalence)
    chosen = choose_exits(replays)
    assert {one.threshold for one in chosen} == {0.7}
    part = policy_part(replays, chosen)
    assert part.questions == 60
    assert [one.thinking for one in part.thresholds] == [0.5] * 6
    hopeless = await replays_of(wrong, equivalence)
    none: list[ChosenExit] = choose_exits(hopeless)
    assert not policy_part(hopeless, none).thresholds
    equivalence.close()
    (_, chosen_table), (_, equal), (_, every) = exit_tables(hopeless, none)
    assert all("none is good enough" in row for row in chosen_table[1:])
    assert len(every) == 2 + 2 * (3 * len(THRESHOLDS) + 2)
    assert [row[1] for row in equal[1:4]] == ["agreement of 2", "confidence (mean)", "fixed length"]
