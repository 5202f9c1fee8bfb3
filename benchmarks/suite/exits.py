"""What shorter and longer thinking is worth: each run against whole thinking on the same questions, and all runs by their FLOPs."""

import statistics
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.quality.records import Record
from benchmarks.quality.report import accuracy, flops, interval, lines, plot
from benchmarks.quality.stats import Z95
from benchmarks.report import RESULTS, Table
from benchmarks.suite.runs import THINKING, WHOLE, runs

Asked = tuple[str, int]
"""A question: its task and its number."""

MIN_QUESTIONS = 30
"""A run with fewer answers is no point of the plot."""

MIN_RUNS = 4
"""A label with fewer runs has no plot."""


def report(label: str, answers: Mapping[str, Mapping[str, Sequence[Record]]], *, is_saved: bool = True) -> None:
    """Print the table of a label, and save it with the plot. `answers` are the records by run and task."""
    found = {run: by_question(tasks) for run, tasks in answers.items()}
    if WHOLE.name not in found:
        return
    made = table(label, found)
    print(made.markdown())
    if is_saved:
        made.save()
        if len(found) >= MIN_RUNS:
            print(draw(label, found))


def by_question(by_task: Mapping[str, Sequence[Record]]) -> dict[Asked, Record]:
    """Return the records of a run by their question."""
    return {(one.task, one.question): one for records in by_task.values() for one in records}


def paired(ours: Mapping[Asked, Record], theirs: Mapping[Asked, Record]) -> list[tuple[Record, Record]]:
    """Return the records of two runs on the questions that both have answered."""
    return [(one, theirs[asked]) for asked, one in ours.items() if asked in theirs]


def table(label: str, answers: Mapping[str, Mapping[Asked, Record]]) -> Table:
    """Return the table, with a row for each run that changes the thinking."""
    title = f"{label}: thinking that ends early, on questions of the suite that whole thinking has answered too"
    made = Table(f"suite/exits-{label}", title, "benchmarks.suite run --thinks")
    made.rows = [_row(run.name, answers[run.name], answers[WHOLE.name]) for run in THINKING if run.name in answers]
    return made


def _row(name: str, ours: Mapping[Asked, Record], whole: Mapping[Asked, Record]) -> dict[str, Any]:
    pairs = paired(ours, whole)
    mine, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    low, high = interval(mine)
    middle, half = difference([one.is_right - other.is_right for one, other in pairs])
    return {
        "run": name,
        "questions": len(pairs),
        "accuracy %": f"{100 * accuracy(mine):.1f} ({100 * low:.1f} to {100 * high:.1f})",
        "points more than whole": f"{100 * middle:+.1f} ({100 * (middle - half):+.1f} to {100 * (middle + half):+.1f})",
        "thinking tokens": round(_mean(mine, "thinking"), 1),
        "share of whole %": round(100 * _mean(mine, "thinking") / _mean(theirs, "thinking"), 1),
        "trials' tokens": round(_mean(mine, "verified"), 1),
        "decoded tokens": round(_mean(mine, "tokens"), 1),
        "TFLOP/question": round(flops(mine) / 1e12, 4),
        "seconds / whole": round(_mean(mine, "seconds") / _mean(theirs, "seconds"), 2),
        "not slower %": round(100 * statistics.fmean(one.seconds <= other.seconds for one, other in pairs)),
    }


def difference(gains: Sequence[int]) -> tuple[float, float]:
    """Return the mean of paired differences of 1, 0 and -1, and half of its 95 % interval (normal approximation)."""
    mean = statistics.fmean(gains)
    return mean, Z95 * sqrt(statistics.pvariance(gains, mean) / len(gains))


def _mean(records: Sequence[Record], name: str) -> float:
    return statistics.fmean(getattr(record, name) for record in records)


def draw(label: str, answers: Mapping[str, Mapping[Asked, Record]]) -> Path:
    """Write the plot of the runs with enough answers, on the questions that all of them have answered, and return its path."""
    shown = {name: found for name, found in answers.items() if len(found) >= MIN_QUESTIONS}
    common = set.intersection(*map(set, shown.values()))
    enough = {name: [found[asked] for asked in common] for name, found in shown.items()}
    every = lines(runs(has_verifier=True, thinks=True), enough)
    panel = {line: [enough[run.name] for run in found] for line, found in every.items()}
    title = f"{label}, {len(common)} questions: accuracy against FLOPs, all costs charged (bars: 95 % Wilson)"
    return plot(title, {"suite": panel}, RESULTS / f"suite-{label}.png")
