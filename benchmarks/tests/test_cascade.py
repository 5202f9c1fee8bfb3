"""Cascades are evaluated on questions that they were not fitted to."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("reasoning_gym")

from benchmarks import cascade, report
from tests.lab.calibration.test_cascades import LARGE, RIDDLE, SMALL, STORY, SUM, member


def test_a_family_that_is_left_out_is_not_fitted_to() -> None:
    """Each question is evaluated once."""
    tasks, others = ["a", "b", "c", "d", "e", "f"] * 3, ["f", "e", "d", "c", "b", "a"] * 4
    folds = cascade._by_family(tasks, others)
    for places, to_fit in folds:
        assert not {tasks[place] for place in places} & {others[place] for place in to_fit}
    assert sorted(np.concatenate([places for places, _ in folds])) == list(range(len(tasks)))


def test_each_fold_is_evaluated_and_the_tables_tell_who_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(cascade, "RESULTS", tmp_path)
    tasks = {SUM: "chain_sum", STORY: "lcm", RIDDLE: "gcd"}
    members = [
        replace(one, observed=[replace(each, task=tasks[each.text]) for each in one.observed])
        for one in (member("small", SMALL, 1, 0, 60), member("large", LARGE, 20, 1, 60))
    ]
    found = cascade.evaluate(members, members, [(np.arange(60), np.arange(60))])
    cascade.report(Namespace(name="tried", test=[]), members, found, found)
    paths = sorted((tmp_path / "cascade").glob("tried-*.json"))
    assert [path.stem for path in paths] == ["tried-curve", "tried-families", "tried-plans", "tried-regret"]
    rows = {row["family"]: row for row in json.loads(paths[1].read_text())["rows"]}
    shares = {family: int(row["large answers"].removesuffix("%")) for family, row in rows.items()}
    assert shares["lcm"] > 80
    assert max(shares["chain_sum"], shares["gcd"]) < 30


def test_the_interval_of_a_paired_difference_holds_its_mean() -> None:
    mean, low, high = cascade._bootstrap(np.array([1.0, 0.0, 0.0, -1.0, 1.0] * 20))
    assert mean == pytest.approx(0.2)
    assert low < 0.2 < high
    assert high - low < 0.35
