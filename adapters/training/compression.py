"""`ponder prune`: measure what matters, cut the rest away, and let the unpruned model teach what is left."""

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
from adapters.training.pruning import Plan, measure, prune
from adapters.training.recipe import Job
from adapters.training.run import Origin, Surroundings
from adapters.training.work import Work

Cut = tuple[int | None, int | None, int | None]
"""What stays: (channels of each MLP, KV heads, layers), None for all."""

ONE_TOKEN = Work(tokens=1, pairs=1, rows=1, rows_again=0, learns=False)
"""Written after nothing: what a model costs at least."""


def make_smaller(job: Job, cut: Cut, num_calibration: int, around: Surroundings) -> RunCard:
    """A smaller model in `job.out`, recovered by distillation from the job's model on the job's data.

    The card compares the model as it was, as it is cut, and as it recovered.

    Raises `PruningRefused` for a model that cannot be made, and what `distill_logits` raises.
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
        return _cut(job, plan, calibration, read_chats(job.validation) if job.validation else calibration, around)

    command = f"ponder prune, {plan.mlp_channels} channels, {plan.kv_heads} KV heads, {plan.num_layers} layers"
    origin = Origin(how={"chats to see what matters by": num_calibration})
    return distill_logits(job, Path(job.model), around, command, origin, make_student=make_student)


def _cut(
    job: Job, plan: Plan, calibration: Sequence[Chat], watched: Sequence[Chat], around: Surroundings
) -> tuple[Any, Callable[[], dict[str, float]]]:
    """The student, and what tells how far it has recovered."""
    tokenizer = load_tokenizer(job.model)
    model = AutoModelForCausalLM.from_pretrained(job.model, local_files_only=True, dtype=torch.float32)
    seen, asked = (encode(tokenizer, chats, job.recipe.context).rows for chats in (calibration, watched))
    found = _told(model, "before", asked, around)
    around.say(f"measuring what matters on {len(seen)} chats")
    student = prune(model, measure(model, _batches(seen)), plan)
    found |= _told(student, "pruned", asked, around)
    around.say(
        f"{found['parameters, before']:,} parameters became {found['parameters, pruned']:,}; the unpruned model teaches them"
    )
    return student, lambda: found | {"loss of the answers, recovered": mean_loss(student, asked)}


def _told(model: Any, when: str, rows: Sequence[dict[str, list[int]]], around: Surroundings) -> dict[str, float]:
    cost = around.costs_of(model.config.to_dict(), 0, False)(ONE_TOKEN)
    return {
        f"parameters, {when}": sum(one.numel() for one in model.parameters()),
        f"GFLOP a token, {when}": cost / 1e9,
        f"loss of the answers, {when}": mean_loss(model, rows),
    }


def mean_loss(model: Any, rows: Sequence[dict[str, list[int]]]) -> float:
    """Negative log-likelihood in nats of a token that is learned, mean over all of them."""
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
    """One row at a time: nothing is padded."""
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
