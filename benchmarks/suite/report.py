"""Tables of the answers to the suite, made of the records alone: a summary for the documentation, and the details."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.records import Log, Record, counted
from benchmarks.quality.report import accuracy, flops, interval
from benchmarks.quality.stats import compared
from benchmarks.quality.tasks import Task
from benchmarks.report import Table
from benchmarks.suite import exits
from benchmarks.suite.families import BINS, HELD_OUT
from benchmarks.suite.runs import RUNS, THINKING, THINKING_VOTES, WHOLE
from benchmarks.suite.serving import FOLDER

Answers = dict[str, dict[str, list[Record]]]
"""Records by run and task."""

COMMAND = "benchmarks.suite run"

VOTES = {"reasoning-search": "best_of_n, equations, vote n=4", "thinking": "self_consistency n=4"}
"""The vote that strategies are compared with on the same questions, by label."""

_HELD_OUT = {family.name for family in HELD_OUT}
_SHORTENED = {run.name for run in THINKING} - {WHOLE.name, "early_exit, 0.9"}  # the table of exits has them


def report(tasks: dict[str, Task], *, is_saved: bool = True, has_details: bool = False, folder: Path = FOLDER) -> None:
    """Print the tables, and save the summary.

    Args:
        tasks: by name.
        is_saved: write `suite/summary.json`.
        has_details: print a row for each label, run, family and bin too.
        folder: of the records.

    """
    found = {path.stem: answers(path, tasks) for path in sorted(folder.glob("*.jsonl"))}
    if not any(found.values()):
        print("There are no answers yet.")
        return
    short = summary(found)
    print(short.markdown())
    for label, answered in found.items():
        exits.report(label, answered, is_saved=is_saved)
    if has_details:
        print(details(found).markdown())
    against = [against_a_vote(label, found.get(label, {}), vote) for label, vote in VOTES.items()]
    for table in against:
        print(table.markdown())
    if is_saved:
        for table in (short, *against):
            table.save()


def against_a_vote(label: str, answered: Answers, vote: str) -> Table:
    """Return a table with one row for each run: it and the vote on the questions that both answered."""
    title = f"{label}: strategies against {vote} on the same questions"
    voted = exits.by_question(answered.get(vote, {}))
    shown = {run: by_task for run, by_task in answered.items() if run not in _SHORTENED}
    found = {run: exits.paired(exits.by_question(by_task), voted) for run, by_task in shown.items()}
    rows = [_against(run, pairs, is_vote=run == vote) for run, pairs in found.items() if pairs]
    return Table(f"suite/against-{label}", title, f"{COMMAND} --label {label}", rows)


def _against(run: str, pairs: Sequence[tuple[Record, Record]], *, is_vote: bool) -> dict[str, Any]:
    ours, theirs = [one for one, _ in pairs], [one for _, one in pairs]
    won, lost, p = compared([(one.is_right, other.is_right) for one, other in pairs])
    return {
        "run": run,
        "questions": len(pairs),
        "accuracy %": _share(ours),
        "TFLOP/question": round(flops(ours) / 1e12, 4),
        "FLOPs of the vote": f"{flops(ours) / flops(theirs):.2f}x",
        "won and lost": "" if is_vote else f"+{won} -{lost}, p={p:.2g}",
        "tokens/question": round(_tokens(ours)),
    }


def answers(path: Path, tasks: dict[str, Task]) -> Answers:
    """Return the answers of one label."""
    by_task: dict[str, list[Record]] = defaultdict(list)
    for record in Log(path).records():
        by_task[record.task].append(record)
    every = [*THINKING, *THINKING_VOTES, *RUNS]
    found: Answers = {run.name: {} for run in every}
    for name, records in by_task.items():
        if name in tasks:
            for run, these in counted(records, tasks[name], every).items():
                if these:
                    found[run][name] = these
    return {run: by_name for run, by_name in found.items() if by_name}


def family_of(record: Record) -> str:
    """Return the family of a record: its task without the bin."""
    return record.task.removesuffix(f"-{record.bin}")


def details(found: dict[str, Answers]) -> Table:
    """Return a table with one row for each label, run, family and bin."""
    rows = [
        {
            "label": label,
            "run": run,
            "family": family_of(records[0]),
            "bin": records[0].bin,
            "held out": family_of(records[0]) in _HELD_OUT,
            "questions": len(records),
            "accuracy %": round(100 * accuracy(records), 1),
            "95 % interval": _bounds(records),
            "TFLOP/question": round(flops(records) / 1e12, 4),
            "tokens/question": round(_tokens(records), 1),
            "seconds": round(statistics.fmean(record.seconds for record in records), 2),
        }
        for label, answered in found.items()
        for run, by_task in answered.items()
        for records in by_task.values()
    ]
    return Table("suite/details", "Suite: each family and bin", COMMAND, rows)


def summary(found: dict[str, Answers]) -> Table:
    """Return a table with one row for each label and run, of accuracies in % with their 95 % Wilson intervals."""
    title = "Suite, accuracy in % (95 % Wilson interval); bins and `all` are of the families that may be trained on"
    rows = [
        _row(label, run, [record for records in by_task.values() for record in records])
        for label, answered in found.items()
        for run, by_task in answered.items()
    ]
    return Table("suite/summary", title, COMMAND, rows)


def _row(label: str, run: str, records: list[Record]) -> dict[str, Any]:
    trained = [record for record in records if family_of(record) not in _HELD_OUT]
    held_out = [record for record in records if family_of(record) in _HELD_OUT]
    return {
        "model": label,
        "run": run,
        "questions": len(records),
        **{f"bin {number}": _share([record for record in trained if record.bin == number]) for number in BINS},
        "all": _share(trained),
        "held out": _share(held_out),
        "TFLOP/question": round(flops(records) / 1e12, 4),
        "tokens/question": round(_tokens(records)),
    }


def _share(records: Sequence[Record]) -> str:
    return f"{100 * accuracy(records):.1f} ({_bounds(records)})" if records else ""


def _bounds(records: Sequence[Record]) -> str:
    low, high = interval(records)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _tokens(records: Sequence[Record]) -> float:
    """Return the mean of the tokens that all branches decoded together."""
    return statistics.fmean(record.tokens for record in records)
