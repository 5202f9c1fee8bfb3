"""Distillation by probabilities: the student learns what the teacher would have said at each token, by trl's GKD without sampling.

Teacher and student must split text alike. trl keeps this trainer in its experimental part.
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
from adapters.training.checks import WORK_FOLDER, begin, check_space
from adapters.training.errors import RecipeRefused
from adapters.training.recipe import Job
from adapters.training.run import GIVEN, Origin, Surroundings, arguments, finish, head, read_data, tell_left_out
from adapters.training.trainers import Metered
from adapters.training.work import Costs, work_of

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


def check_teacher(teacher: str, base: Path) -> Path:
    """The folder of a teacher whose probabilities can be learned; raises `RecipeRefused` for any other."""
    folder = Path(teacher).expanduser()
    if not folder.is_dir():
        raise RecipeRefused(f"probabilities are learned of a model folder, and {teacher} is none")
    if load_tokenizer(folder).get_vocab() != load_tokenizer(base).get_vocab():
        raise RecipeRefused(f"{folder} and {base} split text differently: distil without logits")
    return folder


def distill_logits(
    job: Job,
    teacher: Path,
    around: Surroundings,
    command: str,
    origin: Origin = GIVEN,
    *,
    make_student: Callable[[], tuple[Any, Callable[[], dict[str, float]]]] | None = None,
) -> RunCard:
    """Train on the job's data against the teacher's probabilities.

    `make_student`: gives a model and what its trained self is measured by, instead of the job's with fresh LoRA weights.

    Raises `RecipeRefused` when the two do not split text alike.
    """
    check_teacher(str(teacher), job.model)
    tokenizer = load_tokenizer(job.model)
    job = job.model_copy(update={"recipe": job.recipe.model_copy(update={"packing": False})})
    data = read_data(job, tokenizer)
    heading = head(job, command, {**data.described, "teacher": teacher.name}, origin)
    if card := begin(job.out, heading.fingerprint):
        return card
    tell_left_out(data.num_too_long, job, around)
    model, measure = make_student() if make_student else (load_model(job.model, job.recipe, job.dtype, job.start), dict)
    check_space(job.out, model)
    expert = AutoModelForCausalLM.from_pretrained(teacher, local_files_only=True, dtype=getattr(torch, job.dtype))
    options = {"config": GKDConfig, "lmbda": 0.0, "beta": FORWARD_KL, "temperature": 1.0, "max_length": job.recipe.context}
    trainer = LogitDistiller(
        model=model,
        teacher_model=expert,
        args=arguments(job, job.out / WORK_FOLDER, is_watched=data.watched is not None, **options),
        train_dataset=Dataset.from_list(data.learned.chats),
        eval_dataset=Dataset.from_list(data.watched.chats) if data.watched else None,
        processing_class=tokenizer,
    )
    trainer.teacher_costs = around.costs_of(expert.config.to_dict(), 0, False)
    return finish(trainer, job, around, heading, tokenizer, measure=measure)
