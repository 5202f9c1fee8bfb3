"""One training run from start to end: checked, resumed where it was killed, and left as a folder that can be served."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTConfig

from adapters.digest import digest
from adapters.disk import write_whole
from adapters.training.base import load_model, load_tokenizer, num_parameters, num_trainable
from adapters.training.card import RunCard
from adapters.training.checks import WORK_FOLDER, check_space, check_start, open_run_folder
from adapters.training.cost import RunMeter, read_cost
from adapters.training.data import Encoded, encode, read_chats
from adapters.training.export import save
from adapters.training.ports import USER_DATA, Provenance, RunCost, TrainingEnvironment
from adapters.training.recipe import Job
from adapters.training.trainers import NUM_CHECKPOINTS, FineTuner, ProgressCallback, newest_checkpoint
from adapters.weights import digest_of

TEMPLATE_FILE = "chat_template.jinja"
"""Name of the chat template beside a model or an adapter, as transformers has it."""

SCORES = {
    "eval_loss": "validation loss",
    "eval_mean_token_accuracy": "validation token accuracy",
    "eval_auroc": "validation AUROC",
}
"""A trainer's name of a score -> the run card's."""


@dataclass(frozen=True)
class RunHeader:
    """What is known of a run before it starts. `fingerprint` is the hash of everything that decides the result."""

    command: str
    fingerprint: str
    data: dict[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """The chats of a job as token ids. `validation` is None without a validation file."""

    training: Encoded
    validation: Encoded | None

    @property
    def num_too_long(self) -> int:
        """Examples of both files that were left out since they are longer than the context."""
        return sum(encoded.num_too_long for encoded in (self.training, self.validation) if encoded)

    @property
    def description(self) -> dict[str, Any]:
        """Counts and hashes, for the run card and the fingerprint."""
        found = {
            "examples": len(self.training.rows),
            "left out as too long": self.training.num_too_long,
            "hash": digest(self.training.rows),
        }
        if self.validation:
            found |= {"validation examples": len(self.validation.rows), "validation hash": digest(self.validation.rows)}
        return found


def fine_tune(job: Job, environment: TrainingEnvironment, command: str, provenance: Provenance = USER_DATA) -> RunCard:
    """Fine-tune on the job's chats and leave the result in `job.out`. A run that is finished there is not repeated.

    Args:
        job: the model, the data, the recipe and the folder of the result.
        environment: what the program that starts the run provides.
        command: title of the run card; part of the fingerprint.
        provenance: where the data come from.

    Raises:
        DataRefused: the data cannot be trained on.
        RecipeRefused: the recipe does not fit the model, or not the run in the folder.
        MachineRefused: the disk is too small, or the processor cannot compute this. But for a disk that fills up later,
            all errors come before anything is computed.

    """
    tokenizer = load_tokenizer(job.model, job.chat_template)
    recipe = job.recipe
    data = read_data(job, tokenizer)
    template = {"chat template": digest(tokenizer.chat_template)} if job.chat_template else {}
    header = describe_run(job, command, data.description | template, provenance)
    if card := open_run_folder(job.out, header.fingerprint):
        return card
    report_left_out(data.num_too_long, job, environment)
    model = load_model(job.model, recipe, job.dtype, job.start)
    check_space(job.out, model)
    sft = {"config": SFTConfig, "max_length": recipe.context, "packing": recipe.packing}
    trainer = FineTuner(
        model=model,
        args=trainer_arguments(job, job.out / WORK_FOLDER, has_validation=data.validation is not None, **sft),
        train_dataset=Dataset.from_list(data.training.rows),
        eval_dataset=Dataset.from_list(data.validation.rows) if data.validation else None,
        processing_class=tokenizer,
    )
    return finish(trainer, job, environment, header, tokenizer)


def finish(
    trainer: Any,
    job: Job,
    environment: TrainingEnvironment,
    header: RunHeader,
    tokenizer: Any,
    *,
    measure: Callable[[], dict[str, float]] = dict,
) -> RunCard:
    """Run a `MeteredTrainer` from its newest checkpoint to the end, and leave its model and the run card in `job.out`.

    `measure` is called after training and returns more scores of the trained model, by name.
    """
    _prepare(trainer, job, environment)
    _train(trainer, newest_checkpoint(job.out / WORK_FOLDER))
    scores = {"training loss": next(one["loss"] for one in reversed(trainer.state.log_history) if "loss" in one)}
    if trainer.eval_dataset is not None:
        found = trainer.evaluate()
        scores |= {title: found[name] for name, title in SCORES.items() if name in found}
    scores |= measure()
    cost = trainer.meter.cost
    card = RunCard(
        command=header.command,
        fingerprint=header.fingerprint,
        base=job.model.name,
        data=header.data,
        recipe=job.recipe.described,
        parameters=num_parameters(trainer.model),
        trained=num_trainable(trainer.model),
        steps=trainer.state.global_step,
        tokens=cost.tokens,
        flops=cost.flops,
        seconds=cost.seconds,
        peak_bytes=cost.peak_bytes,
        scores=scores,
        machine=environment.machine,
    )
    save(trainer.model, tokenizer, job.out, base=job.model.name)
    if job.chat_template is not None:
        write_whole(job.out / TEMPLATE_FILE, tokenizer.chat_template)
    card.write(job.out)  # last, since a folder with a card is a finished run
    shutil.rmtree(job.out / WORK_FOLDER, ignore_errors=True)
    return card


def _prepare(trainer: Any, job: Job, environment: TrainingEnvironment) -> None:
    """Give the trainer its meter and its callbacks."""
    model = trainer.model
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # trl rounds them to bfloat16 over a base in 4 bits; see `load_model`
    checkpoint = newest_checkpoint(job.out / WORK_FOLDER)
    if checkpoint:
        environment.say(f"resuming at {checkpoint.name}")
    lora_parameters = None if job.recipe.method == "full" else num_trainable(model)
    flops_counter = environment.flops_counter(model.config.to_dict(), lora_parameters, job.recipe.recompute)
    trainer.meter = RunMeter(flops_counter, read_cost(checkpoint) if checkpoint else RunCost())
    trainer.remove_callback(PrinterCallback)  # it would print each log as a dict between the lines of our progress
    for callback in (ProgressCallback(environment.report, trainer.meter), *environment.callbacks):
        trainer.add_callback(callback)
    if job.recipe.patience and trainer.eval_dataset is not None:
        trainer.add_callback(EarlyStoppingCallback(job.recipe.patience))


def _train(trainer: Any, checkpoint: Path | None) -> None:
    """Train from a checkpoint on, or from the start.

    When the checkpoint is that of the last step, only the best one is loaded: transformers would train one more step,
    or, after early stopping, go on as if the run had not been stopped.
    """
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if state.best_model_checkpoint is not None:  # an absolute path, and the folder may have been moved since
            state.best_model_checkpoint = str(checkpoint.with_name(Path(state.best_model_checkpoint).name))
            state.save_to_json(str(checkpoint / TRAINER_STATE_NAME))
        if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
            trainer.state = state
            trainer._load_from_checkpoint(state.best_model_checkpoint or str(checkpoint))
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def read_data(job: Job, tokenizer: Any) -> TrainingData:
    """Read the chats of the job's files that fit its context; raises `DataRefused`."""

    def encoded(path: Path) -> Encoded:
        return encode(tokenizer, read_chats(path), job.recipe.context)

    return TrainingData(encoded(job.data), encoded(job.validation) if job.validation else None)


def report_left_out(num_too_long: int, job: Job, environment: TrainingEnvironment) -> None:
    """Tell the user how many examples are longer than the context, if any."""
    if num_too_long:
        environment.say(f"{num_too_long} examples are longer than {job.recipe.context} tokens and left out")


def describe_run(job: Job, command: str, data: Mapping[str, Any], provenance: Provenance = USER_DATA) -> RunHeader:
    """Return the header of a run; raises what `check_start` raises.

    The number format is not part of the fingerprint, so that a run can be resumed on another machine.
    """
    start = None
    if job.start is not None:
        check_start(job.start, job.recipe)
        start = digest_of(job.start)
    decides = {**data, **provenance.settings}
    fingerprint = digest([command, job.model.name, start, job.recipe.described, decides])
    return RunHeader(command, fingerprint, {**decides, **provenance.cost})


def trainer_arguments(job: Job, work: Path, *, has_validation: bool, config: Callable[..., Any], **more: Any) -> Any:
    """Translate the recipe for a trainer.

    `config` is the class of its arguments, `more` are arguments that only this class has.
    """
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
        eval_strategy="steps" if has_validation else "no",
        eval_steps=recipe.every,
        save_steps=recipe.every,
        save_total_limit=NUM_CHECKPOINTS,
        load_best_model_at_end=has_validation,
        metric_for_best_model="eval_loss" if has_validation else None,
        greater_is_better=False if has_validation else None,
        logging_steps=10,
        logging_first_step=True,
        restore_callback_states_from_checkpoint=True,  # early stopping remembers how many evaluations brought no gain
        disable_tqdm=True,
        report_to=[],
        dataloader_pin_memory=torch.cuda.is_available(),
        **more,
    )
