"""Policies with and without answers are compared at equal FLOPs, and the figures are stored beside the agreement model."""

import random
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from app.engine.scripted import SMALL
from app.lab.calibration.pool import Pool
from app.routing.agreement import AgreementModel
from app.routing.pool_file import POOL, PoolEntry, PoolSettings, Sample
from benchmarks import report, unlabelled
from benchmarks.graded_pool import GradedPool
from benchmarks.unlabelled import PriceCurve
from strategies.answers.equivalence import Equivalence

FORMS = (("What is {} + 25?", 0.95), ("A long sum: {} + 18 + 3 + 4?", 0.5), ("A riddle of the king: {} + 25?", 0.02))


def settings(model: str) -> PoolSettings:
    return PoolSettings(model=model, adapter=None, architecture=SMALL.to_dict(), samples=3, temperature=0.7, max_tokens=64)


def sample(text: str) -> Sample:
    words = text.split()
    return Sample(
        text=text, token_ids=tuple(range(len(words))), lengths=tuple(len(word) + 1 for word in words), logprobs=(-0.1,) * len(words),
        finish_reason="stop", stop_reason=None, cached=32, is_right="42" in text,
    )  # fmt: skip


def filled(folder: Path, model: str, first: int, num: int = 45) -> Path:
    """Return a folder with a pool. An answer is right with the probability of the form of its question."""
    generator, pool = random.Random(f"{model}-{first}"), Pool(folder / POOL, settings(model))
    for number in range(first, first + num):
        form, chance = FORMS[number % 3]
        texts = [f"It is {42 if generator.random() < chance else generator.randrange(100)}" for _ in range(4)]
        greedy, *others = [sample(text) for text in texts]
        entry = PoolEntry(
            key=str(number), question=form.format(number), kind="math", task="sums", bin=1, prefix=tuple(range(40)), greedy=greedy,
            samples=tuple(others),
        )  # fmt: skip
        pool.add(entry)
    return folder


@pytest.mark.parametrize(("options", "name"), [([], "unlabelled"), (["--live"], "live")])
def test_policies_are_compared_and_the_agreement_model_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], name: str
) -> None:
    folders = {name: filled(tmp_path / name, name[0], 100 * place) for place, name in enumerate(("a-fit", "a-test", "b"))}
    (tmp_path / "policy").mkdir()
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(unlabelled, "AGREEMENT_FILE", tmp_path / "agreement.json")
    monkeypatch.setattr(unlabelled, "NUM_RESAMPLES", 20)
    pair = f"a={folders['a-fit']},{folders['a-test']}"
    monkeypatch.setattr(sys, "argv", ["unlabelled", pair, f"b={folders['b']}", *options, "--write"])
    unlabelled.main()
    written = AgreementModel.model_validate_json((tmp_path / "agreement.json").read_bytes())
    assert written.provenance == {"models": ["a", "b"], "questions": 135}
    a, b = written.measured
    assert (a.model, a.questions, a.test_questions) == ("a", 45, 45)
    assert (b.model, b.questions, b.test_questions) == ("b", 23, 22)
    for one in (a, b):
        assert one.interval[0] <= one.accuracy <= one.interval[1]
        assert abs(one.accuracy) < 0.15
    assert (tmp_path / "policy" / f"{name}.json").exists()


@pytest.mark.anyio
async def test_live_calibration_would_have_kept_fewer_answers() -> None:
    one = sample("It is 42")
    entry = PoolEntry(
        key="a", question="What is 17 + 25?", kind="math", task="sums", bin=1, prefix=(1, 2), greedy=one, samples=(one,) * 9
    )
    backtracked = settings("a").model_copy(update={"samples": 9, "backtracked": 8, "attempts": 3})
    with closing(Equivalence()) as equivalence:
        pool = await GradedPool.graded(backtracked, [entry], equivalence)
    live = pool.live()
    assert (live.settings.samples, live.settings.backtracked, live.settings.attempts) == (7, 7, 3)
    [kept] = live.entries
    assert len(kept.answers) == len(live.ballots[0]) == 8


def test_curves_are_compared_at_equal_flops() -> None:
    """The second policy needs twice the FLOPs for the same accuracy: it is behind, except where there is no more to gain."""
    accuracy = np.array([[0.2], [0.4], [0.6]])
    one, other = (PriceCurve(accuracy, np.array([[10.0], [20.0], [40.0]]) * factor) for factor in (1, 2))
    gap, low, high = unlabelled._difference([one, other], np.log(np.array([20.0, 40.0])))
    assert gap == pytest.approx(-0.2)
    assert low == pytest.approx(high)
