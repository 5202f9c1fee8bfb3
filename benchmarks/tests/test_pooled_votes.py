"""Votes replayed over a pool: each is compared with the plain vote on the same questions."""

from pathlib import Path

import pytest

pytest.importorskip("reasoning_gym")

from app.engine.scripted import SMALL
from app.lab.calibration.pool import Pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.routing.pool_file import PoolEntry, PoolSettings, Sample
from benchmarks import report
from benchmarks.suite import pooled_votes
from benchmarks.suite.pooled_votes import PLAIN, PLANS, discrimination, meets
from strategies.checking.sample_vote import SelfConsistencyParams

SETTINGS = PoolSettings(
    model="scripted", adapter=None, architecture=SMALL.to_dict(), samples=16, temperature=0.7, max_tokens=64, alternatives=20
)


def sample(number: int, confidence: float, num_tokens: int) -> Sample:
    return Sample(
        text="so " * (num_tokens - 1) + str(number), token_ids=tuple(range(num_tokens)), lengths=(3,) * num_tokens,
        logprobs=(-0.1,) * num_tokens, confidences=(confidence,) * num_tokens, finish_reason="stop", stop_reason=None, cached=0,
        is_right=number == 42,
    )  # fmt: skip


def entry(key: str, task: str = "gcd") -> PoolEntry:
    """Return a question to which 7 of 16 answers are right: these are confident and short."""
    samples = (*[sample(42, 9.0, 40)] * 7, *[sample(41, 1.0, 60)] * 9)
    return PoolEntry(
        key=key, question="17 + 25?", kind="math", task=task, bin=1, prefix=tuple(range(40)), greedy=samples[0], samples=samples
    )


def test_votes_are_compared_with_the_plain_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain vote elects the wrong answer here. Votes that weigh, keep or cut by confidence elect the right one."""
    pool = Pool(tmp_path / "pool.jsonl", SETTINGS)
    for number in range(2):
        pool.add(entry(str(number)))
    pool.add(entry("held out", "lcm"))
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "suite").mkdir()
    monkeypatch.setattr(pooled_votes, "ORDERS", 2)
    shown = (PLAIN, "plain vote of 4", "weights tail", "keep 0.1", "cut 0.9")
    monkeypatch.setattr(pooled_votes, "PLANS", {name: PLANS[name] for name in shown})
    table = pooled_votes.report(tmp_path / "pool.jsonl", "votes")
    assert "replayed on 2 questions" in table.title
    assert "1.00 (lowest_group)" in table.title
    rows = {row["vote of 16"]: row for row in table.rows}
    assert tuple(rows) == shown
    assert rows[PLAIN]["accuracy %"].startswith("0.0 ")
    assert rows[PLAIN]["% of its tokens"] == 100
    for name in ("weights tail", "keep 0.1"):
        assert rows[name]["accuracy %"].startswith("100.0 ")
        assert rows[name]["points more than the plain vote"].startswith("+100.0 ")
        assert rows[name]["meets"] == "more accurate"
    assert rows["plain vote of 4"]["% of its tokens"] < 40
    assert rows["cut 0.9"]["% of its tokens"] < 100
    assert (tmp_path / "suite" / "votes.json").is_file()


def test_what_a_vote_meets() -> None:
    """Accuracies and gaps are shares: a loss of a hundredth is as accurate."""
    assert meets(1.0, 0.03, 0.01) == "more accurate"
    assert meets(1.01, 0.03, 0.01) == ""
    assert meets(0.6, 0.0, -0.01) == "fewer tokens"
    assert meets(0.6, 0.0, -0.02) == "fewer tokens, perhaps"
    assert meets(0.6, -0.02, -0.04) == ""
    assert meets(0.61, 0.0, 0.0) == ""


def test_all_plans_are_parameters_of_the_strategy() -> None:
    assert all(SelfConsistencyParams.model_validate(params) for params in PLANS.values())


def test_without_questions_that_have_both_kinds_of_answers_confidence_tells_nothing() -> None:
    only_right = entry("a").model_copy(update={"samples": (sample(42, 1.0, 3), sample(42, 2.0, 3))})
    assert set(discrimination([PooledQuestion(only_right, SETTINGS)]).values()) == {0.5}
