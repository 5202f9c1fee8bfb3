"""`ponder prune`: measure which parts of a model matter, remove the others, and distil the model into the rest."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from adapters.training.base import load_tokenizer
from adapters.training.card import RunCard
from adapters.training.data import IGNORED, Chat, encode, read_chats
from adapters.training.errors import RecipeRefused
from adapters.training.logits import distill_logits
from adapters.training.ports import BatchPass, Provenance, TrainingEnvironment
from adapters.training.pruning import Plan, measure, prune
from adapters.training.recipe import Job

Cut = tuple[int | None, int | None, int | None]
"""(channels of each MLP, KV heads of each layer, layers) that are kept; None for all of them."""

ONE_TOKEN = BatchPass(tokens=1, attention_pairs=1, logit_rows=1, recomputed_logit_rows=0, has_backward=False)
"""A single token without context: the least that a model computes."""


def prune_and_distill(job: Job, cut: Cut, num_calibration: int, environment: TrainingEnvironment) -> RunCard:
    """Prune the job's model, distil the unpruned one into it on the job's data, and leave the result in `job.out`.

    The run card compares the model before pruning, after it, and after distillation.

    Args:
        job: of the method `full`.
        cut: what is kept.
        num_calibration: chats of the job's data by which the importance of the parts is measured.
        environment: what the program that starts the run provides.

    Raises:
        PruningRefused: the model cannot be pruned to these sizes.
        RecipeRefused: nothing is to be removed. Further errors are those of `distill_logits`.

    """
    if not any(cut):
        raise RecipeRefused("say what stays: --mlp-channels, --kv-heads or --layers")
    config = AutoConfig.from_pretrained(job.model, local_files_only=True)
    channels, heads, layers = cut
    plan = Plan(
        mlp_channels=channels or config.intermediate_size,
        kv_heads=heads or config.num_key_value_heads,
        num_layers=layers or config.num_hidden_layers,
    ).checked(config)

    def make_student() -> tuple[Any, Callable[[], dict[str, float]]]:
        calibration = read_chats(job.data)[:num_calibration]
        return _prune(job, plan, calibration, read_chats(job.validation) if job.validation else calibration, environment)

    command = f"ponder prune, {plan.mlp_channels} channels, {plan.kv_heads} KV heads, {plan.num_layers} layers"
    provenance = Provenance(settings={"chats to see what matters by": num_calibration})
    return distill_logits(job, Path(job.model), environment, command, provenance, make_student=make_student)


def _prune(
    job: Job, plan: Plan, calibration: Sequence[Chat], validation: Sequence[Chat], environment: TrainingEnvironment
) -> tuple[Any, Callable[[], dict[str, float]]]:
    """Return the pruned model, and a function that measures it after distillation."""
    tokenizer = load_tokenizer(job.model)
    model = AutoModelForCausalLM.from_pretrained(job.model, local_files_only=True, dtype=torch.float32)
    calibration_rows, validation_rows = (
        encode(tokenizer, chats, job.recipe.context).rows for chats in (calibration, validation)
    )
    found = _scores(model, "before", validation_rows, environment)
    environment.say(f"measuring what matters on {len(calibration_rows)} chats")
    student = prune(model, measure(model, _batches(calibration_rows)), plan)
    found |= _scores(student, "pruned", validation_rows, environment)
    environment.say(
        f"{found['parameters, before']:,} parameters became {found['parameters, pruned']:,}; the unpruned model teaches them"
    )
    return student, lambda: found | {"loss of the answers, recovered": mean_loss(student, validation_rows)}


def _scores(model: Any, when: str, rows: Sequence[dict[str, list[int]]], environment: TrainingEnvironment) -> dict[str, float]:
    flops = environment.flops_counter(model.config.to_dict(), 0, False)(ONE_TOKEN)
    return {
        f"parameters, {when}": sum(one.numel() for one in model.parameters()),
        f"GFLOP a token, {when}": flops / 1e9,
        f"loss of the answers, {when}": mean_loss(model, rows),
    }


def mean_loss(model: Any, rows: Sequence[dict[str, list[int]]]) -> float:
    """Return the mean cross-entropy in nats over all answer tokens of the rows."""
    model.eval()
    total, num_learned = 0.0, 0
    for row in rows:
        labels = torch.tensor([row["labels"]], device=model.device)
        learned = int((labels[:, 1:] != IGNORED).sum())
        with torch.no_grad():
            total += learned * float(model(input_ids=torch.tensor([row["input_ids"]], device=model.device), labels=labels).loss)
        num_learned += learned
    return total / num_learned


def _batches(rows: Sequence[dict[str, list[int]]]) -> Iterator[dict[str, Any]]:
    """Yield one row at a time, so that nothing is padded."""
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
