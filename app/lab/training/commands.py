"""Runs the training commands: each takes validated options, and writes a folder with the result and its run card.

All errors that a user can cause are `TrainingError`s and `ModelUnavailable`, whose messages the command line prints.

`adapters.training` does the training. This module passes it what only the server has, such as the FLOPs arithmetic (`environment`).
"""

import asyncio
import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors import SafetensorError

from adapters.training.base import load_tokenizer
from adapters.training.card import RunCard
from adapters.training.checks import check_job
from adapters.training.data import DatasetQuestion, read_questions
from adapters.training.distilling import select_answers, write_lines
from adapters.training.errors import MachineRefused, RecipeRefused
from adapters.training.folders import check_adapter, exclusive_folder
from adapters.training.labelling import LabelledAnswer, label_outcomes, label_steps, partial_answers, split_by_question
from adapters.training.library_output import silence_libraries
from adapters.training.ports import Provenance
from adapters.training.recipe import Job, Method, Recipe
from adapters.training.run import fine_tune as run_fine_tuning
from adapters.training.sampling import SamplingSettings
from adapters.training.teacher import AnswerCollector, Teacher, beside
from adapters.training.verifier_training import train_verifier
from app.engine import hardware
from app.engine.weights.default_model import ensure_default_model
from app.lab.grading import AnswerGrader
from app.lab.progress import say
from app.lab.training.environment import sampling_environment, training_environment
from app.lab.training.options import DistillOptions, LoraOptions, PruneOptions, SamplingOptions, VerifierOptions
from app.settings import DEFAULT_MODEL, ClientSettings, Settings

SELF = "self"
"""Value of `--teacher` that makes the base its own teacher."""


def fine_tune(method: Method, options: LoraOptions) -> None:
    """Run `ponder train lora` or `ponder train qlora`."""
    with _command(options.out), training_environment(method) as environment:
        card = run_fine_tuning(_job(options, options.data, method), environment, f"ponder train {method}")
    _show(card, options.out)


def distill(options: DistillOptions) -> None:
    """Run `ponder train distill`."""
    with _command(options.out):
        job = _job(options, beside(options.out, "chosen.jsonl"), "lora")
        check_job(job)
        if options.logits:
            # trl's experimental trainer takes a second to import.
            from adapters.training.logits import check_teacher, distill_logits  # noqa: PLC0415

            teacher = check_teacher(options.teacher, job.model)
        provenance = _write_teacher_answers(options, job, read_questions(options.prompts))
        with training_environment("distill") as environment:
            if options.logits:
                card = distill_logits(job, teacher, environment, "ponder train distill --logits", provenance)
            else:
                card = run_fine_tuning(job, environment, "ponder train distill", provenance)
    _show(card, options.out)


def _write_teacher_answers(options: DistillOptions, job: Job, questions: list[DatasetQuestion]) -> Provenance:
    """Write the teacher's shortest right answers into the job's data file, and return where they come from."""
    with _collector(options, _teacher(options, job.model)) as collector:
        samples = collector.answers(questions, options.samples)
    with AnswerGrader() as grader:
        selected = asyncio.run(select_answers(questions, samples, grader, keep=options.keep))
    write_lines(job.data, selected.chats)
    say(
        f"{selected.solved} of {selected.questions} questions answered rightly at least once, {selected.share_right:.0%} of the "
        f"answers are right ({collector.cost}); {len(selected.chats)} are learned"
    )
    return collector.provenance(options.samples)


def verifier(options: VerifierOptions) -> None:
    """Run `ponder train verifier`."""
    with _command(options.out):
        job = _job(options, options.prompts, "lora")
        check_job(job)
        if options.generator is not None:
            check_adapter(options.generator)
        labelled, provenance = _label(options, job.model, read_questions(options.prompts))
        training, validation = split_by_question(labelled, options.validation_share)
        share = sum(one.label for one in labelled) / max(len(labelled), 1)
        say(f"{len(labelled)} answers are labelled, {share:.0%} of them right")
        title = f"ponder train verifier --kind {options.kind}"
        with training_environment("verifier") as environment:
            card = train_verifier(job, training, validation, environment, title, provenance=provenance)
    _show(card, options.out)


def _label(options: VerifierOptions, base: Path, questions: list[DatasetQuestion]) -> tuple[list[LabelledAnswer], Provenance]:
    """Label the generator's answers, or their steps too. Return the labelled answers, and where they come from."""
    with _collector(options, Teacher(str(base), options.generator)) as collector, AnswerGrader() as grader:
        samples = collector.answers(questions, options.samples)
        labelled = asyncio.run(label_outcomes(questions, samples, grader))
        if options.kind == "prm":
            partials = partial_answers(questions, samples, options.steps)
            rollouts = collector.rollouts(partials, options.rollouts, load_tokenizer(base))
            labelled += asyncio.run(label_steps(partials, rollouts, grader))
        return labelled, collector.provenance(options.samples)


def prune(options: PruneOptions) -> None:
    """Run `ponder prune`."""
    # trl's experimental trainer takes a second to import.
    from adapters.training.compression import prune_and_distill  # noqa: PLC0415

    with _command(options.out), training_environment("prune") as environment:
        cut = (options.mlp_channels, options.kv_heads, options.layers)
        card = prune_and_distill(_job(options, options.data, "full"), cut, options.calibration, environment)
    _show(card, options.out)


def _job(options: Any, data: Path, method: Method) -> Job:
    """Make a job of the options of any training command."""
    chosen = options.model_dump(include=set(Recipe.model_fields))
    recipe = Recipe(method=method, **{"packing": False, **chosen})  # the commands without the option do not pack
    rest = options.model_dump(include={"start", "chat_template", "validation"})
    return Job(model=base_folder(options.model), dtype=dtype(), data=data, out=options.out, recipe=recipe, **rest)


def _collector(options: SamplingOptions, teacher: Teacher) -> AnswerCollector:
    settings = SamplingSettings(options.temperature, options.max_tokens, options.seed, options.concurrency)
    return AnswerCollector(teacher, settings, options.out, sampling_environment())


def _teacher(options: DistillOptions, base: Path) -> Teacher:
    """Return the model that the options name as the teacher."""
    if options.is_remote:
        url = options.teacher.rstrip("/").removesuffix("/v1")
        return Teacher(options.teacher_model or "", url=url, key=ClientSettings().api_key)
    return Teacher(str(base), options.start) if options.teacher == SELF else Teacher(options.teacher)


def base_folder(model: str) -> Path:
    """Return the folder of the base model; the embedded one is converted first.

    Raises `RecipeRefused` when there is no folder.
    """
    if model == DEFAULT_MODEL:
        return ensure_default_model(Settings().cache_dir.expanduser(), say)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise RecipeRefused(f"there is no model folder {model}: a model must be on this machine to be trained")
    return folder


def dtype() -> Any:
    """Return the number format that this machine computes fastest in."""
    return "bfloat16" if hardware.has_nvidia_gpu() else hardware.plan_cpu().dtype


def _show(card: RunCard, out: Path) -> None:
    console = Console()
    console.print(card.markdown(), markup=False, highlight=False, soft_wrap=True)
    serve = f"ponder adapters push NAME {out}" if card.recipe["method"] != "full" else f"ponder serve --model {out}"
    console.print(f"serve it: {serve}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _command(out: Path) -> Iterator[None]:
    """Run one command, which alone writes to `out`. Raises `MachineRefused` when the disk is full."""
    silence_libraries()
    try:
        # Without this, SIGTERM would end this process at once, and leave the servers that it started.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with exclusive_folder(out):
            yield
    except (OSError, SafetensorError) as error:
        # safetensors reports a full disk as an error of its own, with the system's message in its text.
        if getattr(error, "errno", None) not in {errno.ENOSPC, errno.EDQUOT} and os.strerror(errno.ENOSPC) not in str(error):
            raise
        message = f"the disk is full ({error}); the files that are written are kept: make room and start again"
        raise MachineRefused(message) from error
