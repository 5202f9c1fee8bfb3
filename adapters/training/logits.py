"""Distillation of logits: the student learns the teacher's probabilities of each token of the data's answers.

It is done by trl's trainer for generalised knowledge distillation (Agarwal et al. 2023, arXiv 2306.13649), without sampling
from the student. Teacher and student must have the same tokenizer. trl keeps this trainer in its experimental part.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl.import_utils import TRLExperimentalWarning

from adapters.training.base import load_model, load_tokenizer
from adapters.training.card import RunCard
from adapters.training.checks import WORK_FOLDER, check_space, open_run_folder
from adapters.training.cost import batch_pass
from adapters.training.errors import RecipeRefused
from adapters.training.ports import USER_DATA, FlopsCounter, Provenance, TrainingEnvironment
from adapters.training.recipe import Job
from adapters.training.run import describe_run, finish, read_data, report_left_out, trainer_arguments
from adapters.training.trainers import MeteredTrainer

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", TRLExperimentalWarning
    )  # that it may change between versions does not matter: the lock files pin trl
    from trl.experimental.gkd import GKDConfig, GKDTrainer

FORWARD_KL = 0.0
"""trl's `beta` for KL(teacher || student), as in Hinton et al. (2015): the student covers all that the teacher finds
probable."""


class LogitDistiller(MeteredTrainer, GKDTrainer):
    """Learns a teacher's probabilities on given answers. What the teacher computes is charged to the run too."""

    teacher_flops: FlopsCounter

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.meter.charge(self.teacher_flops(batch_pass(inputs, has_backward=False)))
        return super().compute_loss(model, inputs, *args, **kwargs)


def check_teacher(teacher: str, base: Path) -> Path:
    """Return the teacher's folder; raises `RecipeRefused` when it is no folder, or has another tokenizer than `base`."""
    folder = Path(teacher).expanduser()
    if not folder.is_dir():
        raise RecipeRefused(f"probabilities are learned of a model folder, and {teacher} is none")
    if load_tokenizer(folder).get_vocab() != load_tokenizer(base).get_vocab():
        raise RecipeRefused(f"{folder} and {base} split text differently: distil without logits")
    return folder


def distill_logits(
    job: Job,
    teacher: Path,
    environment: TrainingEnvironment,
    command: str,
    provenance: Provenance = USER_DATA,
    *,
    make_student: Callable[[], tuple[Any, Callable[[], dict[str, float]]]] | None = None,
) -> RunCard:
    """Train on the job's data against the teacher's probabilities, and leave the result in `job.out`.

    Args:
        job: the student, the data, the recipe and the folder of the result; packing is switched off.
        teacher: folder of the teacher.
        environment: what the program that starts the run provides.
        command: title of the run card.
        provenance: where the data come from.
        make_student: returns a student and a function that measures it after training, instead of the job's model with
            LoRA weights.

    Raises:
        RecipeRefused: the two have different tokenizers. Further errors are those of `fine_tune`.

    """
    check_teacher(str(teacher), job.model)
    tokenizer = load_tokenizer(job.model)
    job = job.model_copy(update={"recipe": job.recipe.model_copy(update={"packing": False})})
    data = read_data(job, tokenizer)
    header = describe_run(job, command, {**data.description, "teacher": teacher.name}, provenance)
    if card := open_run_folder(job.out, header.fingerprint):
        return card
    report_left_out(data.num_too_long, job, environment)
    model, measure = make_student() if make_student else (load_model(job.model, job.recipe, job.dtype, job.start), dict)
    check_space(job.out, model)
    teacher_model = AutoModelForCausalLM.from_pretrained(teacher, local_files_only=True, dtype=getattr(torch, job.dtype))
    options = {"config": GKDConfig, "lmbda": 0.0, "beta": FORWARD_KL, "temperature": 1.0, "max_length": job.recipe.context}
    trainer = LogitDistiller(
        model=model,
        teacher_model=teacher_model,
        args=trainer_arguments(job, job.out / WORK_FOLDER, has_validation=data.validation is not None, **options),
        train_dataset=Dataset.from_list(data.training.chats),
        eval_dataset=Dataset.from_list(data.validation.chats) if data.validation else None,
        processing_class=tokenizer,
    )
    trainer.teacher_flops = environment.flops_counter(teacher_model.config.to_dict(), 0, False)
    return finish(trainer, job, environment, header, tokenizer, measure=measure)
