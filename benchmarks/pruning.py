"""What pruning loses and recovery regains: the embedded model with its adapter merged, pruned, and trained by the unpruned one.

`make` computes the three models and resumes where it was stopped. `report` runs the suite on them and measures their speed in turn.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
from pathlib import Path

from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters.preload import SHIPPED
from app.engine.weights.default_model import ensure_default_model
from app.settings import DEFAULT_MODEL, Settings
from benchmarks import load, servers
from benchmarks.quality.report import accuracy
from benchmarks.report import Table
from benchmarks.suite import questions
from benchmarks.suite.families import TRAINING
from benchmarks.suite.report import answers
from benchmarks.suite.serving import FOLDER

WORK = Path(".pruning")
CUT = ["--mlp-channels", "1280", "--layers", "28"]
NAMES = ("merged", "pruned", "recovered")
QUESTIONS = 10
TOKENS = 48


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruning", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    make = commands.add_parser("make", help="the three models")
    make.add_argument("--data", type=Path, required=True, help="chats of `benchmarks.suite data`")
    make.add_argument("--validation", type=Path, required=True)
    make.add_argument("--steps", type=int, default=120)
    commands.add_parser("report", help="the suite and the speed of the three")
    arguments = parser.parse_args()
    if arguments.what == "make":
        _make(arguments)
    else:
        _report()


def _make(arguments: argparse.Namespace) -> None:
    merged = WORK / NAMES[0]
    if not (merged / "config.json").exists():
        _merge(merged)
    common = ["--model", str(merged), "--data", str(arguments.data), "--validation", str(arguments.validation), *CUT]
    common += ["--context", "320", "--batch", "8", "--at-once", "8", "--every", "40"]
    # a learning rate that changes nothing gives the pruned model without recovery
    for name, steps, rate in ((NAMES[1], 1, "1e-12"), (NAMES[2], arguments.steps, "5e-4")):
        options = ["--max-steps", str(steps), "--learning-rate", rate, "--out", str(WORK / name)]
        subprocess.run([Path(sys.executable).parent / "ponder", "prune", *common, *options], check=True)


def _merge(out: Path) -> None:
    base = ensure_default_model(Settings().cache_dir.expanduser(), print)
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    whole = PeftModel.from_pretrained(model, SHIPPED / DEFAULT_MODEL / "reasoning").merge_and_unload()
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(out)
    whole.save_pretrained(out)


def _report() -> None:
    table = Table("pruning", "Pruning and recovery: the embedded model with its adapter merged", "benchmarks.pruning")
    for name in NAMES:
        command = ["run", "--label", f"pruning-{name}", "--model", str(WORK / name), "--only-runs", "direct"]
        command += ["--questions", str(QUESTIONS), "--concurrency", "32"]
        subprocess.run([sys.executable, "-m", "benchmarks.suite", *command, "--only-tasks", *_tasks()], check=True)
    speeds = asyncio.run(_speeds())
    scores = json.loads((WORK / NAMES[2] / "run_card.json").read_text(encoding="utf-8"))["scores"]
    for name, speed in zip(NAMES, speeds, strict=True):
        found = answers(FOLDER / f"pruning-{name}.jsonl", questions.tasks())["direct"]
        records = [record for some in found.values() for record in some]
        when = {"merged": "before", "pruned": "pruned", "recovered": "pruned"}[name]
        loss = scores[f"loss of the answers, {'before' if name == 'merged' else name}"]
        table.rows.append(
            {
                "model": name,
                "parameters": f"{scores[f'parameters, {when}'] / 1e6:.1f} M",
                "MFLOP/token": round(1e3 * scores[f"GFLOP a token, {when}"], 1),
                "tokens/s": round(speed),
                "loss": round(loss, 3),
                "right": f"{sum(record.is_right for record in records)} of {len(records)} ({accuracy(records):.1%})",
            }
        )
    table.save()
    print(table.markdown())


def _tasks() -> list[str]:
    """Return the tasks that the adapter was trained on."""
    return [f"{family.name}-*" for family in TRAINING]


async def _speeds() -> list[float]:
    """Return the tokens per second of each model with 32 requests at once, as medians of rounds."""
    found: list[list[float]] = [[] for _ in NAMES]
    options = ("--model-name", servers.MODEL, "--adapter-slots", "0")
    with (
        servers.ponder("--model", str(WORK / NAMES[0]), *options, name=NAMES[0], kv_gib=1) as first,
        servers.ponder("--model", str(WORK / NAMES[1]), *options, name=NAMES[1], kv_gib=1) as second,
        servers.ponder("--model", str(WORK / NAMES[2]), *options, name=NAMES[2], kv_gib=1) as third,
    ):
        running = (first, second, third)
        await load.warm_up(*running)
        for number in range(3):
            for speeds, server in zip(found, running, strict=True):
                made = await load.direct(server, 32, 32, TOKENS, 1000 * (number + 1))
                speeds.append(made.tokens_per_second)
    return [statistics.median(speeds) for speeds in found]


if __name__ == "__main__":
    main()
