"""Write training data, run the test on a model, or report the answers. A run resumes where the last one stopped."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from adapters import preload
from benchmarks import servers
from benchmarks.quality.answering import Work, answer_all
from benchmarks.quality.records import Log
from benchmarks.quality.tasks import NotInstalled
from benchmarks.suite import mending, pooled, pooled_votes, questions, thoughts
from benchmarks.suite.families import BINS, FAMILIES, TRAINING
from benchmarks.suite.questions import Example
from benchmarks.suite.report import report
from benchmarks.suite.runs import VERIFIER, runs
from benchmarks.suite.serving import claim, serving

SHIPPED = preload.SHIPPED / servers.MODEL


def main() -> None:
    """Entry point."""
    arguments = _parser().parse_args()
    try:
        if arguments.what == "run":
            _run(arguments)
        elif arguments.what == "pooled":
            if arguments.votes:
                pooled_votes.report(arguments.pool, arguments.name)
            else:
                pooled.report(arguments.pool, arguments.name)
        elif arguments.what == "mending":
            _mending(arguments)
        elif arguments.what == "report":
            report(questions.tasks(), is_saved=not arguments.dry, has_details=arguments.details)
        else:
            _write(arguments)
    except (NotInstalled, questions.TooMany) as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    data = commands.add_parser("data", help="chats with worked solutions, one JSON object a line")
    prompts = commands.add_parser("prompts", help="questions with their answers, for a teacher whose answers are checked")
    thinking = commands.add_parser("thoughts", help="chats whose answers begin with thinking: a worked solution and its check")
    thinking.add_argument("--mended", type=float, default=0.35, help="share of the solutions with a slip that the check mends")
    thinking.add_argument("--plain", type=float, default=0.1, help="share of the answers without thinking")
    for command, splits in (
        (data, ["train", "validation"]),
        (prompts, ["train", "validation", "test"]),
        (thinking, ["thoughts", "validation"]),
    ):
        command.add_argument("--split", choices=splits, default=splits[0])
        command.add_argument(
            "--per-setting", type=int, default=1000, help="questions of each family and bin; fewer if there are no more"
        )
        command.add_argument(
            "--skip", type=int, default=0, help="questions of each setting to skip, so that two files share none"
        )
        command.add_argument("--bins", type=int, nargs="+", choices=BINS, default=list(BINS))
        command.add_argument("--families", nargs="+", help="by default all training families, or all of the test")
        command.add_argument("--out", type=Path, required=True)
    _add_run(commands.add_parser("run", help="start a server and answer the questions; it can be killed at any time"))
    replayed = commands.add_parser("pooled", help="strategies replayed over a pool of `ponder calibrate`")
    replayed.add_argument("pool", type=Path)
    replayed.add_argument("--name", required=True, help="name of the table")
    replayed.add_argument("--votes", action="store_true", help="votes by confidence; the pool needs --alternatives")
    checked = commands.add_parser("mending", help="start a server and measure an adapter that thinks")
    checked.add_argument("--thinking", type=Path, default=SHIPPED / "thinking", help="the adapter, with its chat template")
    checked.add_argument("--per-setting", type=int, default=3, help="questions of each family and bin")
    checked.add_argument("--skip", type=int, default=20, help="questions of each setting to skip")
    checked.add_argument("--out", type=Path, required=True, help="file of the answers")
    shown = commands.add_parser("report", help="tables of all records")
    shown.add_argument("--dry", action="store_true", help="print only, save nothing")
    shown.add_argument("--details", action="store_true", help="print a row for each label, run, family and bin too")
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("--label", required=True, help="name in the tables of one model with its adapters")
    run.add_argument("--model", default="default", help="a folder, a hub id, or `default` for the embedded model")
    run.add_argument(
        "--adapter",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FOLDER",
        help=f"an adapter that answers, and one named {VERIFIER} that scores",
    )
    run.add_argument("--thinks", action="store_true", help="the model thinks: also the runs that shorten its thinking")
    run.add_argument("--quantization", help="as for `ponder serve`")
    run.add_argument("--only-runs", nargs="+", default=["*"], metavar="GLOB", help='as in runs.py: "self_consistency*"')
    run.add_argument("--only-tasks", nargs="+", default=["*"], metavar="GLOB", help='"chain_sum-*", "*-1"')
    run.add_argument("--questions", type=int, default=questions.HELD_BACK["test"], help="questions of each family and bin")
    run.add_argument("--minutes", type=float, default=float("inf"), help="begin no question after so many minutes")
    run.add_argument("--concurrency", type=int, default=8, help="questions in progress at once")
    run.add_argument("--kv-gib", type=int, default=servers.KV_GIB, help="memory for the server's KV cache")


def _write(arguments: argparse.Namespace) -> None:
    allowed = list(FAMILIES) if arguments.split == "test" else [family.name for family in TRAINING]
    names = arguments.families or allowed
    if unknown := sorted(set(names) - set(allowed)):
        sys.exit(f"{', '.join(unknown)}: choose from {', '.join(allowed)}")
    found = questions.mixed(names, arguments.bins, arguments.split, arguments.per_setting, arguments.skip)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.what == "thoughts":
        chats = list(thoughts.lines(found, mended=arguments.mended, plain=arguments.plain))
    else:
        chats = list(_chats(found, is_worked=arguments.what == "data"))
    arguments.out.write_text("".join(f"{json.dumps(chat, ensure_ascii=False)}\n" for chat in chats), encoding="utf-8")
    print(f"{len(chats)} examples of {len(names)} families in {arguments.out}")


def _chats(found: Iterable[Example], *, is_worked: bool) -> Iterable[dict[str, Any]]:
    for one in found:
        messages = [{"role": "user", "content": one.prompt}]
        messages += [{"role": "assistant", "content": one.worked}] if is_worked else []
        kind = FAMILIES[one.family].kind.served_as
        yield {"messages": messages, "answer": one.answer, "kind": kind, "task": one.family, "bin": one.bin}


def _run(arguments: argparse.Namespace) -> None:
    adapters = _adapters(arguments.adapter)
    chosen = [
        run
        for run in runs(has_verifier=VERIFIER in adapters, thinks=arguments.thinks)
        if _is_any(run.name, arguments.only_runs)
    ]
    tasks = [task for task in questions.tasks().values() if _is_any(task.name, arguments.only_tasks)]
    if not chosen or not tasks:
        sys.exit("no run or no task has such a name")
    deadline = time.monotonic() + 60 * arguments.minutes
    model = servers.MODEL if arguments.model == "default" else arguments.model
    name = model.rstrip("/").rpartition("/")[2]
    options = ["--quantization", arguments.quantization] if arguments.quantization else []
    log = Log(claim(arguments.label, " ".join([name, *options]), adapters))
    work = [Work(task, chosen, task.load(arguments.questions), log) for task in tasks]
    answering = next((adapter for adapter in adapters if adapter != VERIFIER), name)
    keys = [f"suite-{number}" for number in range(len(chosen))]
    with serving(model, adapters, keys, arguments.label, arguments.kv_gib, *options) as url:
        answer_all(url, [work], model=answering, keys=keys, concurrency=arguments.concurrency, deadline=deadline)


def _mending(arguments: argparse.Namespace) -> None:
    adapters = {"reasoning": SHIPPED / "reasoning", "thinking": arguments.thinking}
    with serving(servers.MODEL, adapters, [mending.KEY], "mending", 1) as url:
        template = (arguments.thinking / "chat_template.jinja").read_text(encoding="utf-8")
        answers = asyncio.run(mending.answer_all(url, arguments.per_setting, arguments.skip, template))
    mending.save(answers, arguments.out)
    mending.report(answers, "thinking")


def _adapters(given: Sequence[str]) -> dict[str, Path]:
    adapters = {name: Path(folder) for name, _, folder in (one.partition("=") for one in given)}
    if missing := [str(folder) for folder in adapters.values() if not (folder / "adapter_config.json").is_file()]:
        sys.exit(f"no adapter in {', '.join(missing)}: --adapter takes NAME=FOLDER")
    if len(set(adapters) - {VERIFIER}) > 1:
        sys.exit(f"one adapter answers, and one named {VERIFIER} scores: no others")
    return adapters


def _is_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


if __name__ == "__main__":
    main()
