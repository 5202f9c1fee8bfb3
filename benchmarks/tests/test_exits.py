"""The table of runs that end the thinking early."""

import pytest

pytest.importorskip("reasoning_gym")

from benchmarks.quality.records import Record
from benchmarks.suite.exits import difference, draw, table
from benchmarks.suite.runs import THINKING, WHOLE, runs

SHORT = THINKING[1]


def _record(run, number, *, is_right, thinking, seconds=1.0):
    return Record(
        run.name, "", number, 1000, is_right, "", 10**9, 0, thinking + 10, 3, seconds, "settled", "gcd-1", 1, thinking
    )


def _answers(run, rights, thinking, seconds=1.0):
    return {
        ("gcd-1", number): _record(run, number, is_right=right, thinking=thinking, seconds=seconds)
        for number, right in enumerate(rights)
    }


def test_a_run_is_compared_with_whole_thinking_on_the_questions_that_both_answered():
    whole = _answers(WHOLE, [True, True, False, False], 100, seconds=2.0)
    short = _answers(SHORT, [True, False, True, False, True], 40)
    first, second = table("tiny", {WHOLE.name: whole, SHORT.name: short}).rows
    assert (first["run"], first["points more than whole"], first["share of whole %"]) == (
        WHOLE.name,
        "+0.0 (+0.0 to +0.0)",
        100.0,
    )
    assert (second["run"], second["questions"], second["share of whole %"]) == (SHORT.name, 4, 40.0)
    assert second["accuracy %"].startswith("50.0 ")
    assert second["points more than whole"].startswith("+0.0 (-69.3 to +69.3)")
    assert (second["seconds / whole"], second["not slower %"], second["trials' tokens"]) == (0.5, 100, 3.0)


def test_an_interval_of_paired_differences_shrinks_with_the_questions():
    assert difference([0] * 50) == (0.0, 0.0)
    few, many = difference([1, 0, -1, 1]), difference([1, 0, -1, 1] * 25)
    assert few[0] == many[0] == 0.25
    assert many[1] == pytest.approx(few[1] / 5)


def test_runs_of_a_model_that_thinks_begin_with_its_whole_thinking():
    names = [run.name for run in runs(has_verifier=False, thinks=True)]
    assert names[0] == WHOLE.name
    assert "direct" not in names
    assert len(names) == len(set(names))


def test_the_plot_shows_runs_with_enough_answers(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("benchmarks.suite.exits.RESULTS", tmp_path)
    path = draw("tiny", {WHOLE.name: _answers(WHOLE, [True] * 30, 100), SHORT.name: _answers(SHORT, [True] * 3, 40)})
    assert path.stat().st_size > 1000
