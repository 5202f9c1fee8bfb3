"""What training costs: LoRA and QLoRA against full fine-tuning, on a data set's own answers and on a teacher's, to the same accuracy.

`run` trains one way after another, each in a process of its own, and asks each model greedily as it goes; `memory` looks at the peak of a
few steps of a larger model; `report` makes the table. Killed runs go on. Time and FLOPs of asking are not counted: they are alike for all.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from adapters.training.recipe import Job, Recipe
from adapters.training.run import fine_tune
from adapters.training.tally import Tally
from adapters.training.trainers import Progress
from app.settings import DEFAULT_MODEL
from app.training.commands import base_folder, dtype
from app.training.surroundings import surroundings
from benchmarks.report import Table
from benchmarks.suite import questions
from benchmarks.suite.families import FAMILIES
from benchmarks.suite.questions import Example

FOLDER = Path(__file__).parent / "results" / "training"
WORK = Path(".training-cost")

TASKS = ("chain_sum", "basic_arithmetic", "simple_equations", "leg_counting")
BINS = [1, 2]
MAX_NEW_TOKENS = 160
ASKED_TOGETHER = 50


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        answers: `own`, the data set's, or `teacher`, verified.
        learning_rate: full fine-tuning wants a tenth of LoRA's (Schulman et al. 2025).

    """

    name: str
    method: str
    answers: str
    learning_rate: float
    optim: str = "adamw_torch"


WAYS = (
    Way("full fine-tuning, the data set's own answers", "full", "own", 1e-4),
    Way("full fine-tuning, a teacher's verified answers", "full", "teacher", 1e-4),
    Way("LoRA, the data set's own answers", "lora", "own", 1e-3),
    Way("LoRA, a teacher's verified answers", "lora", "teacher", 1e-3),
    Way("QLoRA, a teacher's verified answers", "qlora", "teacher", 1e-3, "adamw_8bit"),
)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_cost", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    run = commands.add_parser("run", help="train and ask")
    run.add_argument("--own", type=Path, required=True, help="chats with the data set's own answers")
    run.add_argument("--teacher", type=Path, required=True, help="chats with a teacher's verified answers")
    run.add_argument("--epochs", type=float, default=3)
    run.add_argument("--every", type=int, default=25, help="steps between looks")
    run.add_argument("--asked", type=int, default=25, help="validation questions of each family and bin")
    memory = commands.add_parser("memory", help="peak of a few steps")
    memory.add_argument("--model", required=True)
    memory.add_argument("--data", type=Path, required=True)
    one = commands.add_parser("one", help="one way, for `run` and `memory`")
    one.add_argument("job", help="JSON")
    commands.add_parser("report")
    arguments = parser.parse_args()
    {"run": _run, "memory": _memory, "one": lambda given: _one(json.loads(given.job)), "report": lambda _: _report()}[
        arguments.what
    ](arguments)


def _run(arguments: argparse.Namespace) -> None:
    for number, way in enumerate(WAYS):
        data = arguments.own if way.answers == "own" else arguments.teacher
        recipe = {"epochs": arguments.epochs, "batch": 8, "every": arguments.every}
        _in_a_process(way, DEFAULT_MODEL, data, out=WORK / f"{number}", recipe=recipe, asked=arguments.asked)


def _memory(arguments: argparse.Namespace) -> None:
    """The same batch and length for all, activations recomputed, logits in chunks and only where something is learned."""
    recipe = {"max_steps": 3, "batch": 4, "at_once": 4, "context": 256, "recompute": True, "every": 1000}
    for way in WAYS:
        if way.answers == "teacher":
            _in_a_process(way, arguments.model, arguments.data, out=WORK / f"memory-{way.method}", recipe=recipe, asked=0)


def _in_a_process(way: Way, model: str, data: Path, *, out: Path, recipe: dict[str, Any], asked: int) -> None:
    job = {"way": way.name, "model": model, "data": str(data), "out": str(out), "recipe": recipe, "asked": asked}
    subprocess.run([sys.executable, "-m", "benchmarks.training_cost", "one", json.dumps(job)], check=True)


def _one(given: dict[str, Any]) -> None:
    """Train one way; a line of the curve at each look, one of the memory at the end."""
    way = next(way for way in WAYS if way.name == given["way"])
    FOLDER.mkdir(parents=True, exist_ok=True)
    examiner = _examiner(way, given["recipe"]["every"], given["asked"]) if given["asked"] else None
    with surroundings(way.name) as around:

        def report(progress: Progress) -> None:
            if examiner is not None:
                examiner.tally = progress.tally
            around.report(progress)

        recipe = Recipe(method=way.method, learning_rate=way.learning_rate, optim=way.optim, **given["recipe"])
        folder = base_folder(given["model"])
        job = Job(model=folder, dtype=dtype(), data=Path(given["data"]), out=Path(given["out"]), recipe=recipe)
        callbacks = (examiner,) if examiner is not None else ()
        card = fine_tune(job, replace(around, report=report, callbacks=callbacks), way.name)
    line = {"way": way.name, "model": folder.name, "peak_bytes": card.peak_bytes, "flops": card.flops, "seconds": card.seconds}
    with (FOLDER / "runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "steps": card.steps, "tokens": card.tokens, "is_memory": not given["asked"]}) + "\n")


def _examiner(way: Way, every: int, asked: int) -> Any:
    """A callback of transformers that asks the validation questions greedily every so many steps."""
    found = [one for name in TASKS for number in BINS for one in questions.examples(name, number, "validation", asked)]

    class Examiner(TrainerCallback):
        def __init__(self) -> None:
            self.tally = Tally()
            self.spent = 0.0

        def on_step_end(
            self, _args: Any, state: Any, _control: Any, model: Any = None, processing_class: Any = None, **_: Any
        ) -> None:
            if state.global_step % every and state.global_step != state.max_steps:
                return
            start = time.monotonic()
            share = accuracy(model, processing_class, found)
            line = {
                "way": way.name, "step": state.global_step, "accuracy": share, "asked": len(found), "flops": self.tally.flops,
                "tokens": self.tally.tokens, "seconds": self.tally.seconds - self.spent,
            }  # fmt: skip
            self.spent += time.monotonic() - start
            with (FOLDER / "curves.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{way.name}: step {state.global_step}, {share:.1%} right", flush=True)

    return Examiner()


def accuracy(model: Any, tokenizer: Any, asked: Sequence[Example]) -> float:
    """Share of right greedy answers."""
    model.eval()
    tokenizer.padding_side = "left"
    right = 0
    for start in range(0, len(asked), ASKED_TOGETHER):
        some = asked[start : start + ASKED_TOGETHER]
        chats = [[{"role": "user", "content": one.prompt}] for one in some]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, use_cache=True)
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += sum(FAMILIES[one.family].kind.is_right(text, one.answer) for one, text in zip(some, texts, strict=True))
    model.train()
    return right / len(asked)


def _report() -> None:
    """FLOPs and minutes of each way to the best accuracy that the conventional way reaches, and peak memory."""
    curves = [json.loads(line) for line in (FOLDER / "curves.jsonl").read_text(encoding="utf-8").splitlines()]
    runs = [json.loads(line) for line in (FOLDER / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    points = {way.name: sorted((one for one in curves if one["way"] == way.name), key=lambda one: one["step"]) for way in WAYS}
    target = max(one["accuracy"] for one in points[WAYS[0].name])
    rows = []
    for way in WAYS:
        reached = next((one for one in points[way.name] if one["accuracy"] >= target), None)
        peak = [one["peak_bytes"] for one in runs if one["way"] == way.name and one["is_memory"]]
        rows.append(
            {
                "way": way.name,
                "best accuracy": f"{max((one['accuracy'] for one in points[way.name]), default=0):.1%}",
                f"TFLOP to {target:.1%}": f"{reached['flops'] / 1e12:,.1f}" if reached else "not reached",
                "minutes to it": f"{reached['seconds'] / 60:.1f}" if reached else "",
                "peak GiB, 0.5B": f"{peak[-1] / 2**30:.2f}" if peak else "",
            }
        )
    table = Table("training", "Training to the accuracy of the conventional way", "benchmarks.training_cost run", rows)
    table.save()
    print(table.markdown())


if __name__ == "__main__":
    main()
