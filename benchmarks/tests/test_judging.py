"""A judge is asked of what drafts disagree on, and its picks are compared with answers."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("reasoning_gym")

from app.engine.scripted import SMALL, ScriptedEngine
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.pool import Pool
from app.lab.service import start_service
from app.routing.pool_file import POOL, PoolEntry, PoolSettings, Sample
from benchmarks import judging, judging_report, report
from benchmarks.judgements import (
    ANSWERS,
    DERIVATIONS,
    POINTWISE,
    WAYS,
    Ask,
    Disagreement,
    Judgement,
    read_disagreements,
    read_judgements,
)
from benchmarks.judging_plans import JudgedPlan, chosen, few
from strategies.answers.equivalence import Equivalence

SETTINGS = PoolSettings(model="scripted", adapter=None, architecture=SMALL.to_dict(), samples=3, temperature=0.7, max_tokens=64)


def sample(answer: str) -> Sample:
    words = ["so"] * 9 + [answer]
    return Sample(
        text=" ".join(words), token_ids=tuple(range(10)), lengths=(3,) * 9 + (len(answer),), logprobs=(-0.1,) * 10,
        finish_reason="stop", stop_reason=None, cached=32, is_right=answer == "42",
    )  # fmt: skip


def pool(folder: Path, answers: Mapping[str, Sequence[str]]) -> Path:
    """Return the folder of a pool with a greedy answer and samples for each key."""
    made = Pool(folder / POOL, SETTINGS)
    for key, (greedy, *others) in answers.items():
        made.add(
            PoolEntry(
                key=key,
                question=f"{'Take your time. ' * 20}What is {key}?",
                kind="math",
                task="lcm" if key == "split" else "gcd",
                bin=1,
                prefix=tuple(range(40)),
                greedy=sample(greedy),
                samples=tuple(map(sample, others)),
            )
        )
    return folder


@pytest.fixture
def disagreements(tmp_path: Path) -> list[Disagreement]:
    """The first question has no disagreement, the last one no right draft."""
    drafts = {"sure": ["42"] * 4, "split": ["7", "42", "7", "8"], "near": ["42", "42", "9", "9"], "hard": ["1", "2", "3", "1"]}
    small = pool(tmp_path / "small", drafts)
    large = pool(tmp_path / "large", {key: ["42"] * 4 for key in drafts})
    with closing(Equivalence()) as equivalence:
        return asyncio.run(read_disagreements([small], [large], equivalence))[0]


def test_only_questions_whose_drafts_disagree_are_read(disagreements: list[Disagreement]) -> None:
    assert [one.small.key for one in disagreements] == ["split", "near", "hard"]
    assert [(draft.answer, draft.votes, draft.is_right) for draft in disagreements[0].drafts] == [
        ("7", 2, False), ("42", 1, True), ("8", 1, False),
    ]  # fmt: skip
    assert [one.has_right for one in disagreements] == [True, True, False]
    assert disagreements[0].own_flops == sum(SMALL.branch_cost(40, 0, 10))


def test_letters_are_asked_in_opposite_orders_and_scores_belong_to_drafts(disagreements: list[Disagreement]) -> None:
    """The scripted engine always finds the first letter most probable: so the two orders have opposite scores."""
    first, second = (text for text, _ in judging._texts(disagreements[0], ANSWERS))
    assert first.endswith("Which proposed answer is right? Answer with A, B or C.")
    assert [line for line in first.splitlines() if line.startswith(" (")] != [
        line for line in second.splitlines() if line.startswith(" (")
    ]

    async def judge() -> Judgement:
        async with start_service("scripted", {}, max_tokens=1, build=lambda _settings: ScriptedEngine("A")) as service:
            return await judging._judge(service, disagreements[0], ANSWERS, is_asked=True)

    one, other = asyncio.run(judge()).asks
    order = disagreements[0].order
    assert [one.scores[place] for place in order] == [-1.0, -2.0, -3.0]
    assert [other.scores[place] for place in order] == [-3.0, -2.0, -1.0]
    assert (one.cached, one.tokens) < (other.cached, one.tokens)


def test_votes_decide_where_the_judge_does_not(disagreements: list[Disagreement]) -> None:
    undecided = Judgement(key="split", way=ANSWERS, asks=(Ask(tokens=9, cached=0, scores=(-2.0, -1.5, -2.0)),))
    plans = [JudgedPlan("", ANSWERS), JudgedPlan("", ANSWERS, None, few)]
    found = [one.probabilities(disagreements[0], {("split", ANSWERS): undecided}) for one in plans]
    assert [int(one.argmax()) for one in found] == [1, 0]
    assert [one.sum() for one in found] == pytest.approx([1, 1])


def test_the_choice_knows_only_other_questions_of_the_family() -> None:
    """The judge is chosen where it was right on most of the others."""
    right = {"stop": [0, 0, 0, 0, 0, 0], "judge": [1, 1, 1, 0, 0, 1]}
    plans = [
        PlanPerformance(name, np.array(some, float), np.full(6, cost), np.ones(6))
        for (name, some), cost in zip(right.items(), (0, 1), strict=True)
    ]
    found = chosen(plans, np.array(["a", "a", "a", "b", "b", "b"]), price=0.6, prior=0.0)
    assert found.branches.tolist() == [1, 1, 1, 0, 0, 0]
    assert found.flops.tolist() == [1, 1, 1, 0, 0, 0]


def test_a_judge_that_is_right_where_a_draft_is_gains_by_its_cost(
    disagreements: list[Disagreement], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "cascade").mkdir()
    out = tmp_path / "judged.jsonl"
    lines = [judgement(one, way) for one in disagreements for way in WAYS]
    out.write_text("".join(f"{line.model_dump_json()}\n" for line in lines))
    judging_report.report(disagreements, read_judgements(out), SMALL)
    table = json.loads((tmp_path / "cascade" / "judging-plans.json").read_text())
    assert table["title"] == "Where drafts disagree: all 3"
    rows = {row["plan"]: row for row in table["rows"]}
    accuracy = {name: row["all"].partition(" ")[0] for name, row in rows.items()}
    assert accuracy["the greedy draft"] == "33.3%"
    assert accuracy["judged by final answers, one order"] == accuracy["a judge who is always right"] == "66.7%"
    assert accuracy["the judge's own answer"] == "100.0%"
    assert sorted(path.stem for path in (tmp_path / "cascade").iterdir()) == [
        f"judging-{part}" for part in ("choice", "doubts", "plans", "ways")
    ]
    assert rows["the greedy draft"]["FLOPs after the drafts, of the judge's own answer"] == "0.00"


def judgement(one: Disagreement, way: str) -> Judgement:
    """Return what a judge says that knows which draft is right."""
    scores = tuple(-1.0 if draft.is_right else -3.0 for draft in one.drafts)
    if way == POINTWISE:
        asks = [Ask(tokens=20, cached=0, scores=(score,)) for score in scores]
    else:
        asks = [Ask(tokens=30 if way == DERIVATIONS else 20, cached=0, scores=scores)] * 2
    return Judgement(key=one.small.key, way=way, asks=tuple(asks))
