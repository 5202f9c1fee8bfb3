"""What training costs: LoRA and QLoRA against full fine-tuning to the same accuracy, on answers of a data set and of a teacher.

`run` trains one way after another, each in its own process, and evaluates each model greedily in between. `memory` measures the peak of
a few steps of a larger model. `report` writes the table. Killed runs resume. The time and FLOPs of evaluations are not counted, since
they are the same for all ways. `benchmarks.suite prompts` writes the questions with their final answers, `benchmarks.suite data` those
with worked solutions, and `ponder train distill` those with the right answers of a teacher.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from adapters.disk import write_whole
from adapters.training.data import read_questions
from adapters.training.distilling import write_lines
from adapters.training.ports import Progress, RunCost
from adapters.training.recipe import Job, Recipe
from adapters.training.run import fine_tune
from app.lab.training.commands import base_folder, dtype
from app.lab.training.environment import training_environment
from app.settings import DEFAULT_MODEL
from benchmarks.quality.stats import wilson
from benchmarks.report import Table
from benchmarks.training_evaluation import num_right

FOLDER = Path(__file__).parent / "results" / "training"
CURVES, RUNS = FOLDER / "curves.jsonl", FOLDER / "runs.jsonl"
WORK = Path(".training-cost")

TASKS = ("chain_sum", "basic_arithmetic", "simple_equations", "leg_counting")
EVALUATED_STEPS = (20, 40, 60, 80, 100, 120, 160, 200)
"""The model is evaluated after these steps, and after the last one."""

PARTS = (0.5, 0.75, 1.0)
"""The cost is reported up to these shares of the best accuracy of full fine-tuning."""

CHECKPOINT_EVERY = 20
ROWS, ROW_TOKENS = 2, 384
"""Rows are packed full, so a step learns the same number of tokens in each way. Longer rows would leave few steps to evaluate."""


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        answers: `bare` final answers of the data set, its `worked` solutions, or the verified answers of a `teacher`.
        learning_rate: that of full fine-tuning should be a tenth of LoRA's (Schulman et al. 2025).

    """

    name: str
    method: str
    answers: str
    learning_rate: float
    optim: str = "adamw_torch"

    @property
    def label(self) -> str:
        """The name with the learning rate, since a way may have several."""
        return f"{self.name}, rate {self.learning_rate:g}"


WAYS = (
    Way("full fine-tuning, bare answers", "full", "bare", 1e-4),
    Way("full fine-tuning, bare answers", "full", "bare", 3e-4),
    Way("full fine-tuning, worked solutions", "full", "worked", 1e-4),
    Way("LoRA, worked solutions", "lora", "worked", 1e-3),
    Way("LoRA, the teacher's", "lora", "teacher", 1e-3),
    Way("QLoRA, the teacher's", "qlora", "teacher", 1e-3, "adamw_8bit"),
)
"""Bare answers have two rates, since the model learns little at the first one."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_cost", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    run = commands.add_parser("run", help="train and evaluate")
    run.add_argument("--prompts", type=Path, required=True, help="questions, by `benchmarks.suite prompts`")
    run.add_argument("--worked", type=Path, required=True, help="the same with worked solutions, by `benchmarks.suite data`")
    run.add_argument("--distilled", type=Path, required=True, help="OUT of `ponder train distill` on these questions")
    run.add_argument("--epochs", type=float, default=2)
    run.add_argument("--questions", type=int, default=20, help="validation questions of each family and bin")
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
    WORK.mkdir(exist_ok=True)
    bare = WORK / "bare.jsonl"
    questions = read_questions(arguments.prompts)
    chats = [[*(message.model_dump() for message in one.messages), _answer(one.answer)] for one in questions]
    write_lines(bare, [{"messages": chat} for chat in chats])
    teacher = arguments.distilled.with_name(f"{arguments.distilled.name}.chosen.jsonl")
    data = {"bare": bare, "worked": arguments.worked, "teacher": teacher}
    drawn = _lines(arguments.distilled.with_name(f"{arguments.distilled.name}.samples.jsonl"))
    drawn = [
        one for one in drawn if _sampling_settings(one) == _sampling_settings(drawn[-1])
    ]  # the samples of the last teacher
    for number, way in enumerate(WAYS):
        out = WORK / f"{number}"
        if any(line["way"] == way.label and not line["is_memory"] for line in _lines(RUNS)):
            continue
        if not out.exists():
            _forget(way)
        recipe = {"epochs": arguments.epochs, "every": CHECKPOINT_EVERY, "batch": ROWS, "context": ROW_TOKENS}
        charged = sum(one["flops"] or 0 for one in drawn) if way.answers == "teacher" else 0
        _in_a_process(
            way, DEFAULT_MODEL, data[way.answers], out=out, recipe=recipe, num_questions=arguments.questions, charged=charged
        )


def _sampling_settings(samples: Mapping[str, Any]) -> Any:
    """Return the settings of a line of samples, which ponder 0.1 called `how`."""
    return samples.get("settings", samples.get("how"))


def _answer(answer: str | None) -> dict[str, str]:
    return {"role": "assistant", "content": f"#### {answer}"}


def _forget(way: Way) -> None:
    """Remove the lines of a run whose checkpoints are gone."""
    for path in (CURVES, RUNS):
        kept = [line for line in _lines(path) if line["way"] != way.label or line.get("is_memory")]
        if path.exists():
            write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))


def _memory(arguments: argparse.Namespace) -> None:
    """Measure all methods with the same batch and length, recomputed activations, and logits only of tokens that are learned."""
    recipe = {"max_steps": 3, "batch": 4, "at_once": 4, "context": 256, "recompute": True, "every": 1000}
    for way in {way.method: way for way in WAYS}.values():
        out = WORK / f"memory-{way.method}"
        _in_a_process(way, arguments.model, arguments.data, out=out, recipe=recipe, num_questions=0, charged=0)


def _in_a_process(
    way: Way, model: str, data: Path, *, out: Path, recipe: dict[str, Any], num_questions: int, charged: int
) -> None:
    job = {"way": way.label, "model": model, "data": str(data), "out": str(out), "recipe": recipe, "questions": num_questions}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.training_cost", "one", json.dumps({**job, "charged": charged})], check=True
    )


def _one(given: dict[str, Any]) -> None:
    """Train one way. Write a line of the curve at each evaluation, and one of the cost at the end."""
    way = next(way for way in WAYS if way.label == given["way"])
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = base_folder(given["model"])
    examiner = _examiner(way, folder, given["questions"]) if given["questions"] else None
    with training_environment(way.label) as environment:

        def report(progress: Progress) -> None:
            if examiner is not None:
                examiner.cost = progress.cost
            environment.report(progress)

        recipe = Recipe(method=way.method, learning_rate=way.learning_rate, optim=way.optim, **given["recipe"])
        out = Path(given["out"]).absolute()
        job = Job(model=folder, dtype=dtype(), data=Path(given["data"]), out=out, recipe=recipe)
        callbacks = (examiner,) if examiner is not None else ()
        card = fine_tune(job, replace(environment, report=report, callbacks=callbacks), way.label)
    line = {"way": way.label, "method": way.method, "model": folder.name, "peak_bytes": card.peak_bytes, "flops": card.flops}
    more = {"seconds": card.seconds, "steps": card.steps, "tokens": card.tokens, "examples": card.data["examples"]}
    with RUNS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, **more, "charged": given["charged"], "is_memory": not given["questions"]}) + "\n")


def _examiner(way: Way, folder: Path, num_questions: int) -> Any:
    """Return a callback of transformers that answers the validation questions greedily between steps."""

    class Examiner(TrainerCallback):
        def __init__(self) -> None:
            self.cost = RunCost()
            self.spent = 0.0

        def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            if state.global_step:  # a resumed run counts the seconds of earlier evaluations, too
                self.spent = sum(one["asking"] for one in _curve(way) if one["step"] <= state.global_step)

        def on_step_end(
            self, _args: Any, state: Any, _control: Any, model: Any = None, processing_class: Any = None, **_: Any
        ) -> None:
            if state.global_step in EVALUATED_STEPS or state.global_step == state.max_steps:
                self._evaluate(state.global_step, model, processing_class)

        def _evaluate(self, step: int, model: Any, tokenizer: Any) -> None:
            start = time.monotonic()
            right, of = num_right(model, tokenizer, folder, TASKS, num_questions)
            asking = time.monotonic() - start
            line = {
                "way": way.label, "step": step, "right": right, "asked": of, "flops": self.cost.flops,
                "tokens": self.cost.tokens, "seconds": max(self.cost.seconds - self.spent, 0.0), "asking": asking,
            }  # fmt: skip
            self.spent += asking
            with CURVES.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{way.label}: step {step}, {right} of {of} right, evaluated in {asking:.0f} s", flush=True)

    return Examiner()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _curve(way: Way) -> list[dict[str, Any]]:
    """Return the evaluations of a way in order. Of those that a resumed run repeated, the last one counts."""
    by_step = {one["step"]: one for one in _lines(CURVES) if one["way"] == way.label}
    return [by_step[step] for step in sorted(by_step)]


def _kept(curve: Sequence[dict[str, Any]]) -> list[float]:
    """Return for each evaluation the share of right answers that the next one reaches too, so that one lucky evaluation is not enough."""
    shares = [one["right"] / one["asked"] for one in curve]
    return [min(shares[place : place + 2]) for place in range(len(shares))]


def _report() -> None:
    """Print and save the best accuracy of each way, its cost to shares of that of full fine-tuning, and its peak memory."""
    runs = _lines(RUNS)
    curves = {way.label: curve for way in WAYS if (curve := _curve(way))}
    most = _most(curves)
    peaks = {one["method"]: one for one in runs if one["is_memory"]}
    rows = []
    for way in WAYS:
        if (curve := curves.get(way.label)) is None:
            continue
        run = next((one for one in reversed(runs) if one["way"] == way.label and not one["is_memory"]), None)
        best, num = max(_kept(curve)), curve[0]["asked"]
        low, high = wilson(round(best * num), num)
        peak = peaks.get(way.method)
        rows.append(
            {
                "way": way.label,
                "examples": run["examples"] if run else "",
                "best accuracy": f"{best:.1%} ({low:.1%} to {high:.1%})",
                "in all": _spent(curve[-1]),
                **{f"to {part * most:.1%}": _reached(curve, part * most) for part in PARTS},
                "peak GiB": f"{peak['peak_bytes'] / 2**30:.2f} ({peak['model']})" if peak else "",
            }
        )
    charged = max((one["charged"] for one in runs), default=0)
    besides = f"the teacher's answers took {charged / 1e12:,.0f} TFLOP besides"
    title = f"Training to a half, three quarters and all that full fine-tuning comes to; {besides}"
    table = Table("training", title, "benchmarks.training_cost run", rows)
    table.save()
    print(table.markdown())


def _most(curves: Mapping[str, Sequence[dict[str, Any]]]) -> float:
    full = [curves[way.label] for way in WAYS if way.method == "full" and way.label in curves]
    return max((max(_kept(curve)) for curve in full), default=1.0)


def _reached(curve: Sequence[dict[str, Any]], target: float) -> str:
    look = next((one for one, share in zip(curve, _kept(curve), strict=True) if share >= target), None)
    return _spent(look) if look else "not reached"


def _spent(look: Mapping[str, Any]) -> str:
    return f"{look['flops'] / 1e12:,.1f} TFLOP, {look['seconds'] / 60:.1f} min"


if __name__ == "__main__":
    main()
