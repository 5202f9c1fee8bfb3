"""`ponder prune`: measure what matters, cut the rest away, and let the unpruned model teach what is left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from adapters.training.base import load_tokenizer
from adapters.training.card import RunCard
from adapters.training.data import encode, read_chats
from adapters.training.errors import RecipeRefused
from adapters.training.logits import distill_logits
from adapters.training.pruning import Plan, measure, prune
from adapters.training.recipe import Job
from adapters.training.run import Surroundings

Cut = tuple[int | None, int | None, int | None]
"""What stays: (channels of each MLP, KV heads, layers), None for all."""


def make_smaller(job: Job, cut: Cut, num_calibration: int, around: Surroundings) -> RunCard:
    """A smaller model in `job.out`, recovered by distillation from the job's model on the job's data.

    Raises `PruningRefused` for a model that cannot be made, and what `distill_logits` raises.
    """
    if not any(cut):
        raise RecipeRefused("say what stays: --mlp-channels, --kv-heads or --layers")
    tokenizer = load_tokenizer(job.model)
    model = AutoModelForCausalLM.from_pretrained(job.model, local_files_only=True, dtype=torch.float32)
    config = model.config
    channels, heads, layers = cut
    plan = Plan(
        mlp_channels=channels or config.intermediate_size,
        kv_heads=heads or config.num_key_value_heads,
        num_layers=layers or config.num_hidden_layers,
    ).checked(config)
    before = sum(one.numel() for one in model.parameters())
    rows = encode(tokenizer, read_chats(job.data)[:num_calibration], job.recipe.context).rows
    around.say(f"measuring what matters on {len(rows)} chats")
    student = prune(model, measure(model, _batches(rows)), plan)
    after = sum(one.numel() for one in student.parameters())
    around.say(f"{before:,} parameters became {after:,}; now the unpruned model teaches them")
    command = f"ponder prune, {plan.mlp_channels} channels, {plan.kv_heads} KV heads, {plan.num_layers} layers"
    return distill_logits(job, Path(job.model), around, command, student=student)


def _batches(rows: list[dict[str, list[int]]]) -> Iterator[dict[str, Any]]:
    """One row at a time: nothing is padded."""
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
