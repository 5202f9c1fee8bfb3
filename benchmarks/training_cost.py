"""What training costs: LoRA and QLoRA against full fine-tuning, on a data set's own answers and on a teacher's, to the same accuracy.

`run` trains one way after another, each in a process of its own, and asks each model greedily as it goes; `memory` looks at the peak of a
few steps of a larger model; `report` makes the table. Killed runs go on. Time and FLOPs of asking are not counted: they are alike for all.
The data are made by `benchmarks.suite prompts` (the conventional way learns the answers that are there, on all questions) and by
`ponder train distill` from the same file (ours learns what the teacher answered rightly).
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

from adapters.disk import write_whole
from adapters.training.data import read_questions
from adapters.training.distilling import write_lines
from adapters.training.recipe import Job, Recipe
from adapters.training.run import fine_tune
from adapters.training.tally import Tally
from adapters.training.trainers import Progress
from app.settings import DEFAULT_MODEL
from app.training.commands import base_folder, dtype
from app.training.surroundings import surroundings
from benchmarks.quality.stats import wilson
from benchmarks.report import Table
from benchmarks.suite import questions
from benchmarks.suite.families import FAMILIES
from benchmarks.suite.questions import Example

FOLDER = Path(__file__).parent / "results" / "training"
CURVES, RUNS = FOLDER / "curves.jsonl", FOLDER / "runs.jsonl"
WORK = Path(".training-cost")

TASKS = ("chain_sum", "basic_arithmetic", "simple_equations", "leg_counting")
BINS = [1, 2]
MAX_NEW_TOKENS = 256
ASKED_TOGETHER = 100

CONVENTIONAL = "full fine-tuning, the data set's own answers"


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

    @property
    def label(self) -> str:
        """Tells it from the same way at another rate."""
        return f"{self.name}, rate {self.learning_rate:g}"


WAYS = (
    # the baseline gets the best of three rates, the others a guess
    *(Way(CONVENTIONAL, "full", "own", rate) for rate in (1e-4, 3e-5, 3e-4)),
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
    run.add_argument("--prompts", type=Path, required=True, help="questions with the data set's own answers")
    run.add_argument("--distilled", type=Path, required=True, help="OUT of `ponder train distill` on these questions")
    run.add_argument("--epochs", type=float, default=2)
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
    teacher = arguments.distilled.with_name(f"{arguments.distilled.name}.chosen.jsonl")
    drawn = _lines(arguments.distilled.with_name(f"{arguments.distilled.name}.samples.jsonl"))
    drawn = [one for one in drawn if one["how"] == drawn[-1]["how"]]  # the teacher's that was asked last
    WORK.mkdir(exist_ok=True)
    own = WORK / "own.jsonl"
    asked = read_questions(arguments.prompts)
    chats = [[*(message.model_dump() for message in one.messages), _answer(one.answer)] for one in asked]
    write_lines(own, [{"messages": chat} for chat in chats])
    for number, way in enumerate(WAYS):
        out = WORK / f"{number}"
        if not out.exists():
            _forget(way)
        recipe = {"epochs": arguments.epochs, "batch": 8, "every": arguments.every}
        charged = sum(one["flops"] or 0 for one in drawn) if way.answers == "teacher" else 0
        data = own if way.answers == "own" else teacher
        _in_a_process(way, DEFAULT_MODEL, data, out=out, recipe=recipe, asked=arguments.asked, charged=charged)


def _answer(answer: str | None) -> dict[str, str]:
    return {"role": "assistant", "content": f"#### {answer}"}


def _forget(way: Way) -> None:
    """What a run told whose checkpoints are gone."""
    for path in (CURVES, RUNS):
        kept = [line for line in _lines(path) if line["way"] != way.label or line.get("is_memory")]
        if path.exists():
            write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))


def _memory(arguments: argparse.Namespace) -> None:
    """The same batch and length for all, activations recomputed, logits in chunks and only where something is learned."""
    recipe = {"max_steps": 3, "batch": 4, "at_once": 4, "context": 256, "recompute": True, "every": 1000}
    for way in WAYS:
        if way.answers == "teacher":
            out = WORK / f"memory-{way.method}"
            _in_a_process(way, arguments.model, arguments.data, out=out, recipe=recipe, asked=0, charged=0)


def _in_a_process(way: Way, model: str, data: Path, *, out: Path, recipe: dict[str, Any], asked: int, charged: int) -> None:
    job = {"way": way.label, "model": model, "data": str(data), "out": str(out), "recipe": recipe, "asked": asked}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.training_cost", "one", json.dumps({**job, "charged": charged})], check=True
    )


def _one(given: dict[str, Any]) -> None:
    """Train one way; a line of the curve at each look, one of the memory at the end."""
    way = next(way for way in WAYS if way.label == given["way"])
    FOLDER.mkdir(parents=True, exist_ok=True)
    examiner = _examiner(way, given["recipe"]["every"], given["asked"]) if given["asked"] else None
    with surroundings(way.label) as around:

        def report(progress: Progress) -> None:
            if examiner is not None:
                examiner.tally = progress.tally
            around.report(progress)

        recipe = Recipe(method=way.method, learning_rate=way.learning_rate, optim=way.optim, **given["recipe"])
        folder = base_folder(given["model"])
        out = Path(given["out"]).absolute()
        job = Job(model=folder, dtype=dtype(), data=Path(given["data"]), out=out, recipe=recipe)
        callbacks = (examiner,) if examiner is not None else ()
        card = fine_tune(job, replace(around, report=report, callbacks=callbacks), way.label)
    line = {"way": way.label, "method": way.method, "model": folder.name, "peak_bytes": card.peak_bytes, "flops": card.flops}
    more = {"seconds": card.seconds, "steps": card.steps, "tokens": card.tokens, "examples": card.data["examples"]}
    with RUNS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, **more, "charged": given["charged"], "is_memory": not given["asked"]}) + "\n")


def _examiner(way: Way, every: int, asked: int) -> Any:
    """A callback of transformers that asks the validation questions greedily before the first step and every so many steps."""
    found = [one for name in TASKS for number in BINS for one in questions.examples(name, number, "validation", asked)]

    class Examiner(TrainerCallback):
        def __init__(self) -> None:
            self.tally = Tally()
            self.spent = 0.0

        def on_train_begin(
            self, _args: Any, state: Any, _control: Any, model: Any = None, processing_class: Any = None, **_: Any
        ) -> None:
            if state.global_step:  # resumed: seconds of asking before the checkpoint are among its seconds
                self.spent = sum(one["asking"] for one in _curve(way) if one["step"] <= state.global_step)
            else:
                self._ask(0, model, processing_class)

        def on_step_end(
            self, _args: Any, state: Any, _control: Any, model: Any = None, processing_class: Any = None, **_: Any
        ) -> None:
            if state.global_step % every == 0 or state.global_step == state.max_steps:
                self._ask(state.global_step, model, processing_class)

        def _ask(self, step: int, model: Any, tokenizer: Any) -> None:
            start = time.monotonic()
            right = num_right(model, tokenizer, found)
            asking = time.monotonic() - start
            line = {
                "way": way.label, "step": step, "right": right, "asked": len(found), "flops": self.tally.flops,
                "tokens": self.tally.tokens, "seconds": max(self.tally.seconds - self.spent, 0.0), "asking": asking,
            }  # fmt: skip
            self.spent += asking
            with CURVES.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{way.label}: step {step}, {right} of {len(found)} right, asked for {asking:.0f} s", flush=True)

    return Examiner()


def num_right(model: Any, tokenizer: Any, asked: Sequence[Example]) -> int:
    """Right greedy answers. Questions of like length are asked together."""
    model.eval()
    tokenizer.padding_side = "left"
    right = 0
    ordered = sorted(asked, key=lambda one: len(one.prompt))
    for start in range(0, len(ordered), ASKED_TOGETHER):
        some = ordered[start : start + ASKED_TOGETHER]
        chats = [[{"role": "user", "content": one.prompt}] for one in some]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, use_cache=True)
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += sum(FAMILIES[one.family].kind.is_right(text, one.answer) for one, text in zip(some, texts, strict=True))
    model.train()
    return right


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _curve(way: Way) -> list[dict[str, Any]]:
    """The looks of a way in order; of those that a resumed run repeated, the last."""
    by_step = {one["step"]: one for one in _lines(CURVES) if one["way"] == way.label}
    return [by_step[step] for step in sorted(by_step)]


def _kept(curve: Sequence[dict[str, Any]]) -> list[float]:
    """Of each look the share of right answers that the next one has too, so that one lucky look is not enough."""
    shares = [one["right"] / one["asked"] for one in curve]
    return [min(shares[place : place + 2]) for place in range(len(shares))]


def _report() -> None:
    """FLOPs and minutes of each way to the best accuracy that the conventional way reaches, and peak memory."""
    runs = _lines(RUNS)
    curves = {way.label: _curve(way) for way in WAYS}
    best = {label: max(_kept(curve), default=0.0) for label, curve in curves.items()}
    target = max(best[way.label] for way in WAYS if way.name == CONVENTIONAL)
    peaks = {one["method"]: one for one in runs if one["is_memory"]}
    rows = []
    for way in WAYS:
        curve = curves[way.label]
        reached = next((one for one, share in zip(curve, _kept(curve), strict=True) if share >= target), None)
        run = next((one for one in reversed(runs) if one["way"] == way.label and not one["is_memory"]), {})
        low, high = wilson(round(best[way.label] * curve[0]["asked"]), curve[0]["asked"]) if curve else (0.0, 0.0)
        peak = peaks.get(way.method)
        rows.append(
            {
                "way": way.label,
                "examples": run.get("examples", ""),
                "best accuracy": f"{best[way.label]:.1%} ({low:.1%} to {high:.1%})",
                f"TFLOP to {target:.1%}": f"{reached['flops'] / 1e12:,.1f}" if reached else "not reached",
                "with the teacher's": f"{(reached['flops'] + run.get('charged', 0)) / 1e12:,.1f}" if reached else "",
                "minutes to it": f"{reached['seconds'] / 60:.1f}" if reached else "",
                "TFLOP, minutes in all": f"{run['flops'] / 1e12:,.1f}, {curve[-1]['seconds'] / 60:.1f}" if run else "",
                "peak GiB": f"{peak['peak_bytes'] / 2**30:.2f} ({peak['model']})" if peak else "",
            }
        )
    table = Table("training", "Training to the accuracy of the conventional way", "benchmarks.training_cost run", rows)
    table.save()
    print(table.markdown())


if __name__ == "__main__":
    main()
