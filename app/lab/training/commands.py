"""What the commands do: options in, a finished folder and its card out. Errors of training end the command in one line."""

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
from adapters.training.checks import alone, check_adapter, check_job
from adapters.training.data import Question, read_questions
from adapters.training.distilling import choose, write_lines
from adapters.training.errors import RecipeRefused, TrainingError
from adapters.training.http_sampler import HttpSampler
from adapters.training.labelling import Beginning, beginnings, held_out, outcomes, steps
from adapters.training.library_output import quiet
from adapters.training.recipe import Job, Method, Recipe
from adapters.training.run import Origin
from adapters.training.run import fine_tune as run_fine_tuning
from adapters.training.sampling import Sampler
from adapters.training.verifier_training import Labelled, train_verifier
from app.cli.client import fail
from app.engine import hardware
from app.engine.weights.conversions import ModelUnavailable
from app.engine.weights.default_model import ensure_default_model
from app.lab.training.environment import say, surroundings
from app.lab.training.grading import Judging
from app.lab.training.options import DistillOptions, LoraOptions, PruneOptions, VerifierOptions
from app.lab.training.teachers import Answering, Source, beside
from app.settings import DEFAULT_MODEL, Settings


def fine_tune(method: Method, options: LoraOptions) -> None:
    """`ponder train lora` and `qlora`."""
    with _command(options.out), surroundings(method) as around:
        card = run_fine_tuning(_job(options, options.data, method), around, f"ponder train {method}")
    _show(card, options.out)


def distill(options: DistillOptions) -> None:
    """`ponder train distill`."""
    with _command(options.out):
        job = _job(options, beside(options.out, "chosen.jsonl"), "lora")
        check_job(job)
        if options.logits:
            from adapters.training.logits import check_teacher, distill_logits  # noqa: PLC0415 - trl's experimental part

            expert = check_teacher(options.teacher, job.model)
        origin = _answer_and_choose(options, job, read_questions(options.prompts))
        with surroundings("distill") as around:
            if options.logits:
                card = distill_logits(job, expert, around, "ponder train distill --logits", origin)
            else:
                card = run_fine_tuning(job, around, "ponder train distill", origin)
    _show(card, options.out)


def _answer_and_choose(options: DistillOptions, job: Job, questions: list[Question]) -> Origin:
    """The teacher's right answers into the job's data; what the card tells of them."""
    with Answering(options, Source.teacher(options, job.model)) as answering:
        samples = answering.samples(questions, "samples", options.samples, lambda sampler: sampler.sample)
    with _judging() as judging:
        chosen = asyncio.run(choose(questions, samples, judging, keep=options.keep))
    write_lines(job.data, chosen.lines)
    say(
        f"{chosen.solved} of {chosen.questions} questions answered rightly at least once, {chosen.right:.0%} of the answers are "
        f"right ({answering.cost}); {len(chosen.lines)} are learned"
    )
    return answering.origin


def verifier(options: VerifierOptions) -> None:
    """`ponder train verifier`."""
    with _command(options.out):
        job = _job(options, options.prompts, "lora")
        check_job(job)
        if options.generator is not None:
            check_adapter(options.generator)
        labelled, origin = _label(options, job.model, read_questions(options.prompts))
        learned, watched = held_out(labelled, options.validation_share)
        say(
            f"{len(labelled)} answers are labelled, {sum(one.label for one in labelled) / max(len(labelled), 1):.0%} of them right"
        )
        with surroundings("verifier") as around:
            card = train_verifier(job, learned, watched, around, f"ponder train verifier --kind {options.kind}", origin=origin)
    _show(card, options.out)


def _label(options: VerifierOptions, base: Path, questions: list[Question]) -> tuple[list[Labelled], Origin]:
    """Answers of the generator, whole or step by step, with how right they are; and what the card tells of them."""
    with Answering(options, Source(str(base), options.generator)) as answering, _judging() as judging:
        samples = answering.samples(questions, "samples", options.samples, lambda sampler: sampler.sample)
        labelled = asyncio.run(outcomes(questions, samples, judging))
        if options.kind == "prm":
            tokenizer = load_tokenizer(base)

            def continuing(sampler: HttpSampler) -> Sampler[Beginning]:
                return lambda begun, n, seed: sampler.continued(begun.prompt(tokenizer), begun.key, n, seed)

            begun = beginnings(questions, samples, options.steps)
            rollouts = answering.samples(begun, "rollouts", options.rollouts, continuing)
            labelled += asyncio.run(steps(begun, rollouts, judging))
        return labelled, answering.origin


def prune(options: PruneOptions) -> None:
    """`ponder prune`."""
    from adapters.training.compression import make_smaller  # noqa: PLC0415 - as the logits above

    with _command(options.out), surroundings("prune") as around:
        cut = (options.mlp_channels, options.kv_heads, options.layers)
        card = make_smaller(_job(options, options.data, "full"), cut, options.calibration, around)
    _show(card, options.out)


def _job(options: Any, data: Path, method: Method) -> Job:
    """Any of the commands' options as a job."""
    given = options.model_dump(include=set(Recipe.model_fields))
    recipe = Recipe(method=method, **{"packing": False, **given})  # only some have the option
    rest = options.model_dump(include={"start", "validation"})
    return Job(model=base_folder(options.model), dtype=dtype(), data=data, out=options.out, recipe=recipe, **rest)


def base_folder(model: str) -> Path:
    """The folder of the base, converted first when it is the embedded one; raises `RecipeRefused` for a hub's id."""
    if model == DEFAULT_MODEL:
        return ensure_default_model(Settings().cache_dir.expanduser(), say)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise RecipeRefused(f"there is no model folder {model}: what is trained must lie here")
    return folder


def dtype() -> Any:
    """What this machine computes fastest in."""
    return "bfloat16" if hardware.has_nvidia_gpu() else hardware.plan_cpu().dtype


def _show(card: RunCard, out: Path) -> None:
    console = Console()
    console.print(card.markdown(), markup=False, highlight=False, soft_wrap=True)
    serve = f"ponder adapters push NAME {out}" if card.recipe["method"] != "full" else f"ponder serve --model {out}"
    console.print(f"serve it: {serve}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _judging() -> Iterator[Judging]:
    judging = Judging()
    try:
        yield judging
    finally:
        judging.close()


@contextmanager
def _command(out: Path) -> Iterator[None]:
    """One command with its result in `out`, alone there; what goes wrong is told in one line."""
    quiet()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers of ours end too
        with alone(out):
            yield
    except (TrainingError, ModelUnavailable) as error:
        fail(error)
    except (OSError, SafetensorError) as error:  # the latter where weights are written
        if getattr(error, "errno", None) not in {errno.ENOSPC, errno.EDQUOT} and os.strerror(errno.ENOSPC) not in str(error):
            raise
        fail(f"the disk is full ({error}); what is there is kept: make room and start again")
    except KeyboardInterrupt:
        fail("stopped; the same command goes on from the last checkpoint")
