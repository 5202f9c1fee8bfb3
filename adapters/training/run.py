"""One training run from start to end: checked, resumed where it was killed, and left as a folder that can be served."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTConfig

from adapters.training.base import load_model, load_tokenizer, num_parameters, num_trainable
from adapters.training.card import RunCard
from adapters.training.checks import WORK_FOLDER, begin, check_space, check_start
from adapters.training.data import Encoded, digest, encode, read_chats
from adapters.training.export import save
from adapters.training.recipe import Job
from adapters.training.trainers import NUM_KEPT, FineTuner, Report, Reporter, newest_checkpoint
from adapters.training.work import Costs, Meter, Tally
from adapters.weights import digest_of

SCORES = {
    "eval_loss": "validation loss",
    "eval_mean_token_accuracy": "validation token accuracy",
    "eval_auroc": "validation AUROC",
}
"""A trainer's name of a score -> the card's."""

CostsOf = Callable[[Mapping[str, Any], int | None, bool], Costs]
"""(config of the base, LoRA parameters or None when all weights are trained, whether activations are recomputed) -> its costs."""


@dataclass(frozen=True)
class Surroundings:
    """What a run needs of whoever starts it.

    Attributes:
        costs_of: arithmetic of FLOPs.
        report: told of each step.
        say: told what is worth a line.
        machine: in words, for the card.
        callbacks: of transformers, for those who look closer.

    """

    costs_of: CostsOf
    report: Report
    say: Callable[[str], None]
    machine: str = ""
    callbacks: tuple[TrainerCallback, ...] = ()


@dataclass(frozen=True)
class Heading:
    """What a card says that is known before the run."""

    command: str
    fingerprint: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where data come from, for a card: `how` decides what they are, `cost` does not."""

    how: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)


GIVEN = Origin()
"""They were there."""


@dataclass(frozen=True)
class Data:
    """The chats of a job as token ids; `watched` are those of its validation file, None without one."""

    learned: Encoded
    watched: Encoded | None

    @property
    def num_too_long(self) -> int:
        """Examples of both that were left out."""
        return sum(encoded.num_too_long for encoded in (self.learned, self.watched) if encoded)

    @property
    def described(self) -> dict[str, Any]:
        """For the card."""
        found = {
            "examples": len(self.learned.rows),
            "left out as too long": self.learned.num_too_long,
            "hash": digest(self.learned.rows),
        }
        if self.watched:
            found |= {"validation examples": len(self.watched.rows), "validation hash": digest(self.watched.rows)}
        return found


def fine_tune(job: Job, around: Surroundings, command: str, origin: Origin = GIVEN) -> RunCard:
    """Train as the job says and leave the result in `job.out`; a run that is finished is not done again.

    Raises `DataRefused`, `RecipeRefused` and `MachineRefused`, all but a full disk before anything is computed.
    """
    tokenizer = load_tokenizer(job.model)
    recipe = job.recipe
    data = read_data(job, tokenizer)
    heading = head(job, command, data.described, origin)
    if card := begin(job.out, heading.fingerprint):
        return card
    tell_left_out(data.num_too_long, job, around)
    model = load_model(job.model, recipe, job.dtype, job.start)
    check_space(job.out, model)
    work = job.out / WORK_FOLDER
    trainer = FineTuner(
        model=model,
        args=arguments(
            job, work, is_watched=data.watched is not None, config=SFTConfig, max_length=recipe.context, packing=recipe.packing
        ),
        train_dataset=Dataset.from_list(data.learned.rows),
        eval_dataset=Dataset.from_list(data.watched.rows) if data.watched else None,
        processing_class=tokenizer,
    )
    return finish(trainer, job, around, heading, tokenizer)


def finish(
    trainer: Any,
    job: Job,
    around: Surroundings,
    heading: Heading,
    tokenizer: Any,
    *,
    measure: Callable[[], dict[str, float]] = dict,
) -> RunCard:
    """Run any of the metered trainers, from its newest checkpoint on, and leave its model with a card in `job.out`.

    `measure`: further scores of the trained model.
    """
    model, work = trainer.model, job.out / WORK_FOLDER
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # trl rounds them over a base in 4 bits; see `load_model`
    checkpoint = newest_checkpoint(work)
    if checkpoint:
        around.say(f"resuming at {checkpoint.name}")
    lora_parameters = None if job.recipe.method == "full" else num_trainable(model)
    costs = around.costs_of(model.config.to_dict(), lora_parameters, job.recipe.recompute)
    trainer.meter = Meter(costs, Tally.read(checkpoint) if checkpoint else Tally())
    trainer.remove_callback(PrinterCallback)  # the reporter takes its place
    for callback in (Reporter(around.report, trainer.meter), *around.callbacks):
        trainer.add_callback(callback)
    if job.recipe.patience and trainer.eval_dataset is not None:
        trainer.add_callback(EarlyStoppingCallback(job.recipe.patience))
    _train(trainer, checkpoint)
    scores = {"training loss": next(one["loss"] for one in reversed(trainer.state.log_history) if "loss" in one)}
    if trainer.eval_dataset is not None:
        found = trainer.evaluate()
        scores |= {words: found[name] for name, words in SCORES.items() if name in found}
    scores |= measure()
    tally = trainer.meter.tally
    card = RunCard(
        command=heading.command,
        fingerprint=heading.fingerprint,
        base=job.model.name,
        data=heading.data,
        recipe=job.recipe.described,
        parameters=num_parameters(model),
        trained=num_trainable(model),
        steps=trainer.state.global_step,
        tokens=tally.tokens,
        flops=tally.flops,
        seconds=tally.seconds,
        peak_bytes=tally.peak_bytes,
        scores=scores,
        machine=around.machine,
    )
    save(model, tokenizer, job.out, base=job.model.name)
    card.write(job.out)  # last: with it the run is finished
    shutil.rmtree(work, ignore_errors=True)
    return card


def _train(trainer: Any, checkpoint: Path | None) -> None:
    """From a checkpoint on.

    When that was the last one, nothing is left to do but to take the best: transformers would do one more step, or forget that the run
    was stopped in time.
    """
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if state.best_model_checkpoint is not None:  # the run may have been moved
            state.best_model_checkpoint = str(checkpoint.with_name(Path(state.best_model_checkpoint).name))
            state.save_to_json(str(checkpoint / TRAINER_STATE_NAME))
        if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
            trainer.state = state
            trainer._load_from_checkpoint(state.best_model_checkpoint or str(checkpoint))
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def read_data(job: Job, tokenizer: Any) -> Data:
    """The chats of the job's files that fit its context; raises `DataRefused`."""

    def encoded(path: Path) -> Encoded:
        return encode(tokenizer, read_chats(path), job.recipe.context)

    return Data(encoded(job.data), encoded(job.validation) if job.validation else None)


def tell_left_out(num_too_long: int, job: Job, around: Surroundings) -> None:
    """Say how many examples do not fit."""
    if num_too_long:
        around.say(f"{num_too_long} examples are longer than {job.recipe.context} tokens and left out")


def head(job: Job, command: str, data: Mapping[str, Any], origin: Origin = GIVEN) -> Heading:
    """What a run is. The number format is not in it: a run may go on on another machine. Raises what `check_start` raises."""
    start = None
    if job.start is not None:
        check_start(job.start, job.recipe)
        start = digest_of(job.start)
    decides = {**data, **origin.how}
    fingerprint = digest([command, job.model.name, start, job.recipe.described, decides])
    return Heading(command, fingerprint, {**decides, **origin.cost})


def arguments(job: Job, work: Path, *, is_watched: bool, config: Callable[..., Any], **more: Any) -> Any:
    """The trainer's own words for the recipe; `config` is the class that its trainer wants, `more` what only that has."""
    recipe = job.recipe
    return config(
        output_dir=str(work),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup,
        optim=recipe.optim,
        per_device_train_batch_size=recipe.at_once,
        per_device_eval_batch_size=recipe.at_once,
        gradient_accumulation_steps=recipe.batch // recipe.at_once,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps or -1,
        gradient_checkpointing=recipe.recompute,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=job.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps" if is_watched else "no",
        eval_steps=recipe.every,
        save_steps=recipe.every,
        save_total_limit=NUM_KEPT,
        load_best_model_at_end=is_watched,
        metric_for_best_model="eval_loss" if is_watched else None,
        greater_is_better=False if is_watched else None,
        logging_steps=10,
        logging_first_step=True,
        restore_callback_states_from_checkpoint=True,  # how long nothing has been gained
        disable_tqdm=True,
        report_to=[],
        dataloader_pin_memory=torch.cuda.is_available(),
        **more,
    )
