"""Tables and plots, made of the records alone."""

import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.records import FOLDER, Log, Record
from benchmarks.quality.runs import RUNS, SEARCHES, Run
from benchmarks.quality.stats import compared, wilson
from benchmarks.quality.tasks import NotInstalled, Task
from benchmarks.report import RESULTS, Table

BASELINE = "best_of_n"
Answers = dict[str, list[Record]]


def models(folder: Path = FOLDER) -> dict[str, list[str]]:
    """Return the models with records, and the tasks of each."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for task in RUNS:
            if path.stem.endswith(f"-{task}"):
                found.setdefault(path.stem.removesuffix(f"-{task}"), []).append(task)
    return found


def report(tasks: dict[str, Task], *, is_saved: bool = True) -> None:
    """Print all tables, and save them and the plots."""
    for model, names in models().items():
        panels = {}
        for name in names:
            answers = {run: found for run, found in Log.of(model, name).read(tasks[name], RUNS[name]).items() if found}
            if not answers:
                continue
            panels[name] = {line: [answers[run.name] for run in runs] for line, runs in lines(RUNS[name], answers).items()}
            made = table(model, name, answers)
            print(made.markdown(), "", best_search(name, answers), "", sep="\n", flush=True)
            if is_saved:
                made.save()
        if panels and is_saved:
            title = f"{model}: accuracy against FLOPs per question, all costs charged (bars: 95 % Wilson)"
            print(plot(title, panels, RESULTS / f"quality-{model}.png"))


def table(model: str, task: str, answers: Answers) -> Table:
    """Return the table of a task, with one row for each run that has answers."""
    title = f"{model} on {task}: accuracy against FLOPs per question, all costs charged"
    made = Table(f"quality-{model}-{task}", title, "benchmarks.quality run")
    made.rows = [_row(run, answers) for run in RUNS[task] if run.name in answers]
    return made


def _row(run: Run, answers: Answers) -> dict[str, Any]:
    records = answers[run.name]
    low, high = interval(records)
    return {
        "run": run.name,
        "questions": len(records),
        "accuracy %": round(100 * accuracy(records), 1),
        "95 % interval": f"{100 * low:.1f} to {100 * high:.1f}",
        "TFLOP/question": round(flops(records) / 1e12, 4),
        "tokens/question": round(statistics.fmean(record.tokens for record in records)),
        "seconds": round(statistics.fmean(record.seconds for record in records), 2),
        "against best_of_n": _comparison(run, answers),
    }


def accuracy(records: Sequence[Record]) -> float:
    """Return the share of right answers."""
    return statistics.fmean(record.is_right for record in records)


def interval(records: Sequence[Record]) -> tuple[float, float]:
    """Return the 95 % Wilson interval of the accuracy."""
    return wilson(sum(record.is_right for record in records), len(records))


def flops(records: Sequence[Record]) -> float:
    """Return the mean FLOPs per question."""
    return statistics.fmean(record.flops for record in records)


def paired(ours: Sequence[Record], theirs: Sequence[Record]) -> tuple[int, int, float]:
    """Compare two runs on the questions that both answered.

    Returns:
        How many answers are right in `ours` alone and in `theirs` alone, and the exact p of McNemar's test.

    """
    other = {record.question: record.is_right for record in theirs}
    return compared([(record.is_right, other[record.question]) for record in ours if record.question in other])


def counterpart(run: Run, answers: Answers) -> str | None:
    """Return the cheapest best-of-n that costs at least as much as the run, else the most expensive one."""
    costs = {name: flops(found) for name, found in answers.items() if name.startswith(f"{BASELINE} n=")}
    enough = [name for name, cost in costs.items() if cost >= flops(answers[run.name])]
    return min(enough, key=costs.__getitem__) if enough else max(costs, key=costs.__getitem__, default=None)


def _comparison(run: Run, answers: Answers) -> str:
    other = counterpart(run, answers)
    if other is None or run.line == BASELINE:
        return ""
    won, lost, p = paired(answers[run.name], answers[other])
    ratio = flops(answers[other]) / flops(answers[run.name])
    return f"{other.removeprefix(BASELINE).strip()} ({ratio:.2g}x FLOPs): +{won} -{lost}, p={p:.2g}"


def best_search(task: str, answers: Answers) -> str:
    """Describe the most accurate search. Its p is too favourable, since it was chosen for its accuracy."""
    searches = [run for run in RUNS[task] if run.strategy in SEARCHES and run.name in answers]
    if not searches or not any(name.startswith(f"{BASELINE} n=") for name in answers):
        return "No search and best_of_n to compare yet."
    best = max(searches, key=lambda run: (accuracy(answers[run.name]), -flops(answers[run.name])))
    return (
        f"Best search: {best.name}, {100 * accuracy(answers[best.name]):.1f} %; against {BASELINE} {_comparison(best, answers)}"
    )


Panels = Mapping[str, Mapping[str, Sequence[Sequence[Record]]]]
"""The points of each line, by the panel's and the line's name. A point is the records of one run."""


def plot(title: str, panels: Panels, path: Path) -> Path:
    """Write a figure with the panels side by side, and return its path."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - comes with an extra
    except ImportError as error:
        raise NotInstalled("matplotlib is not installed: .venv/bin/python -m pip install -e '.[bench]'") from error
    is_alone = len(panels) == 1  # then its legend stands beside it, where it hides no point
    figure = Figure(figsize=(11 if is_alone else 5.2 * len(panels), 5.6), layout="constrained")
    for axes, (name, drawn) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, (line, points) in enumerate(drawn.items()):
            _draw(axes, number, line, sorted(points, key=flops))
        axes.set(xscale="log", title=name, xlabel="FLOPs per question", ylabel="accuracy", ylim=(-0.03, 1.03))
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1) if is_alone else None)
    figure.suptitle(title)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)
    return path


def lines(runs: Iterable[Run], answers: Container[str]) -> dict[str, list[Run]]:
    """Return the runs that have answers by the line on which they are points."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.name in answers:
            found.setdefault(run.line, []).append(run)
    return found


def _draw(axes: Any, number: int, line: str, points: Sequence[Sequence[Record]]) -> None:
    shares = [accuracy(records) for records in points]
    bounds = [interval(records) for records in points]
    below = [max(0.0, share - low) for share, (low, _) in zip(shares, bounds, strict=True)]
    above = [max(0.0, high - share) for share, (_, high) in zip(shares, bounds, strict=True)]
    style = {"color": f"C{number % 10}", "marker": "os^Dv"[number // 10 % 5 if number >= 10 else number % 5]}
    axes.errorbar([flops(p) for p in points], shares, [below, above], label=line, capsize=2, lw=1.2, ms=4, **style)
