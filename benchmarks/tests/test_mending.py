"""What checks are worth is counted from the answers with them and without them."""

import json

import pytest

pytest.importorskip("reasoning_gym")

from benchmarks import report
from benchmarks.suite import mending
from benchmarks.suite.mending import RUNS, Answer

CHECKED = "thinking"


def answers(run, *, is_right, was_right=None, verdict="", is_closed=True):
    return Answer(
        run=run,
        task="gcd",
        bin=1,
        text="",
        tokens=10,
        is_right=is_right,
        is_closed=is_closed,
        verdict=verdict,
        was_right=was_right,
    )


def test_mended_and_spoiled_solutions_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "suite").mkdir()
    found = [answers(run, is_right=True) for run in RUNS if run != CHECKED]
    found += [
        answers(CHECKED, is_right=True, was_right=False, verdict="no"),
        answers(CHECKED, is_right=False, was_right=False, verdict="no"),
        answers(CHECKED, is_right=False, was_right=False, verdict="yes"),
        answers(CHECKED, is_right=True, was_right=True, verdict="yes"),
        answers(CHECKED, is_right=False, was_right=True, verdict="no"),
        answers(CHECKED, is_right=False, is_closed=False),
    ]
    mending.report(found, "thinking")
    rows = {row["run"]: row for row in json.loads((tmp_path / "suite" / "thinking.json").read_text())["rows"]}
    assert rows["reasoning"]["wrong solutions"] == ""
    row = rows[CHECKED]
    assert row["questions"] == 6
    assert row["thinking ends"] == 5
    assert row["right %"].startswith("33.3 ")
    assert [row[name] for name in ("wrong solutions", "of them doubted", "of them mended")] == [3, 2, 1]
    assert [row[name] for name in ("right solutions doubted", "of them spoiled")] == [1, 1]
