"""Distillation by probabilities: the student learns what the teacher would have said at each token, by trl's GKD without sampling.

Teacher and student must split text alike. trl keeps this trainer in its experimental part.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl.import_utils import TRLExperimentalWarning

from adapters.training.base import load_model, load_tokenizer
from adapters.training.card import RunCard
from adapters.training.errors import RecipeRefused
from adapters.training.recipe import Job
from adapters.training.run import (
    WORK_FOLDER,
    Surroundings,
    arguments,
    begin,
    check_space,
    finish,
    head,
    read_data,
    tell_left_out,
)
from adapters.training.tally import Costs, work_of
from adapters.training.trainers import Metered

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TRLExperimentalWarning)  # that it may change is what the locks are for
    from trl.experimental.gkd import GKDConfig, GKDTrainer

FORWARD_KL = 0.0
"""Of trl's divergences the one that Hinton's distillation has: the student covers all that the teacher holds probable."""


class LogitDistiller(Metered, GKDTrainer):
    """Learns a teacher's probabilities on given answers; what the teacher computes is charged too."""

    teacher_costs: Costs

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.meter.charge(self.teacher_costs(work_of(inputs, learns=False)))
        return super().compute_loss(model, inputs, *args, **kwargs)


def distill_logits(job: Job, teacher: Path, around: Surroundings, command: str, *, student: Any = None) -> RunCard:
    """Train on the job's data against the teacher's probabilities.

    `student`: a model that is there already (a pruned one), instead of the job's with fresh LoRA weights.

    Raises `RecipeRefused` when the two do not split text alike.
    """
    tokenizer = load_tokenizer(job.model)
    if load_tokenizer(teacher).get_vocab() != tokenizer.get_vocab():
        raise RecipeRefused(f"{teacher} and {job.model} split text differently: distil without logits")
    recipe = job.recipe.model_copy(update={"packing": False})
    job = job.model_copy(update={"recipe": recipe})
    data = read_data(job, tokenizer)
    heading = head(job, command, {**data.described, "teacher": teacher.name})
    if card := begin(job.out, heading.fingerprint):
        return card
    tell_left_out(data.num_too_long, job, around)
    model = student if student is not None else load_model(job.model, recipe, job.dtype, job.start)
    check_space(job.out, model)
    expert = AutoModelForCausalLM.from_pretrained(teacher, local_files_only=True, dtype=getattr(torch, job.dtype))
    options = {"config": GKDConfig, "lmbda": 0.0, "beta": FORWARD_KL, "temperature": 1.0, "max_length": recipe.context}
    trainer = LogitDistiller(
        model=model,
        teacher_model=expert,
        args=arguments(job, job.out / WORK_FOLDER, is_watched=data.watched is not None, **options),
        train_dataset=Dataset.from_list(data.learned.chats),
        eval_dataset=Dataset.from_list(data.watched.chats) if data.watched else None,
        processing_class=tokenizer,
    )
    trainer.teacher_costs = around.costs_of(expert.config.to_dict(), 0, False)
    return finish(trainer, job, around, heading, tokenizer)
