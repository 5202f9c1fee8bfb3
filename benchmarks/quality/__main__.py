"""Measure strategies on real models, or report the measurements. A run resumes where the last one stopped."""

import argparse
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

from benchmarks import servers
from benchmarks.quality import oracle
from benchmarks.quality import tasks as questions
from benchmarks.quality.answering import Work, answer_all
from benchmarks.quality.records import Log
from benchmarks.quality.report import report
from benchmarks.quality.runs import RUNS, Run
from benchmarks.quality.tasks import Task


def main() -> None:
    """Entry point."""
    arguments = _parser().parse_args()
    tasks = questions.tasks(arguments.gsm8k)
    try:
        if arguments.what == "run":
            _run(arguments, [tasks[name] for name in arguments.only_tasks])
        else:
            report(tasks, is_saved=not arguments.dry)
    except questions.NotInstalled as missing:
        sys.exit(str(missing))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.set_defaults(gsm8k=questions.GSM8K)
    commands = parser.add_subparsers(dest="what", required=True)
    run = commands.add_parser("run", help="start a server and answer the questions; it can be killed at any time")
    run.add_argument("--model", default=servers.MODEL, help="the embedded model, a folder, or a hub id")
    run.add_argument("--questions", type=int, default=50, help="questions of each task")
    run.add_argument("--only-tasks", nargs="+", choices=RUNS, default=list(RUNS), metavar="TASK", help=" ".join(RUNS))
    run.add_argument(
        "--only-runs", nargs="+", default=["*"], metavar="PATTERN", help='as in runs.py; "beam_search*" matches many'
    )
    run.add_argument("--minutes", type=float, default=float("inf"), help="begin no question after so many minutes")
    run.add_argument("--concurrency", type=int, default=4, help="questions in progress at once")
    run.add_argument("--kv-gib", type=int, default=servers.KV_GIB, help="memory for the server's KV cache")
    run.add_argument("--gsm8k", type=Path, default=questions.GSM8K, help="GSM8K's training questions, one JSON object a line")
    shown = commands.add_parser("report", help="tables and plots of all records")
    shown.add_argument("--dry", action="store_true", help="print only, save nothing")
    return parser


def _run(arguments: argparse.Namespace, tasks: list[Task]) -> None:
    name = arguments.model.rstrip("/").rpartition("/")[2]
    batches = [
        [Work(task, _chosen(task, arguments.only_runs), task.load(arguments.questions), Log.of(name, task.name))]
        for task in tasks
    ]
    deadline = time.monotonic() + 60 * arguments.minutes
    keys = [f"quality-{number}" for number in range(max(len(work.runs) for [work] in batches))]
    options = ("--model", arguments.model, "--api-keys", ",".join(keys), "--max-n", "256", "--max-branches-per-key", "4096")
    with (
        oracle.running() as reward_models,
        servers.ponder(
            *options, "--adapter-slots", "0", "--reward-models", reward_models, name=f"quality {name}", kv_gib=arguments.kv_gib
        ) as server,
    ):
        answer_all(server.url, batches, model=name, keys=keys, concurrency=arguments.concurrency, deadline=deadline)


def _chosen(task: Task, patterns: list[str]) -> list[Run]:
    return [run for run in RUNS[task.name] if any(fnmatch(run.name, pattern) for pattern in patterns)]


if __name__ == "__main__":
    main()
