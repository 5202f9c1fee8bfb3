"""Distillation of logits and pruning: the student approaches the teacher, and a pruned model is an ordinary model."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from adapters.training.card import read_card
from adapters.training.compression import prune_and_distill
from adapters.training.errors import PruningRefused, RecipeRefused
from adapters.training.logits import distill_logits


@pytest.fixture
def teacher(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model with other weights."""
    folder = shutil.copytree(tiny, tmp_path / "teacher")
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def test_the_student_comes_closer_to_the_teacher(job, watcher, teacher):
    made = distill_logits(job(epochs=8, batch=4, at_once=4), teacher, watcher.environment, "a test")
    losses = [step.loss for step in watcher.steps if step.loss is not None]
    assert losses[-1] < losses[0]
    assert made.flops > 5 * made.tokens * 0.9 * (made.parameters - made.trained)  # the student's 4N and the teacher's 2N
    assert (job().out / "adapter_config.json").exists()


def test_a_teacher_with_another_tokenizer_is_refused(job, watcher, teacher):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokenizer.add_tokens(["whole"])
    tokenizer.save_pretrained(teacher)
    with pytest.raises(RecipeRefused, match="split text differently"):
        distill_logits(job(), teacher, watcher.environment, "a test")


def test_a_pruned_model_is_an_ordinary_one(job, watcher, tiny):
    pruned = job(method="full", epochs=6, batch=4, at_once=4, learning_rate=1e-3, validation=None)
    made = prune_and_distill(pruned, (None, 1, None), 16, watcher.environment)
    losses = [step.loss for step in watcher.steps if step.loss is not None]
    assert losses[-1] < losses[0]
    model = AutoModelForCausalLM.from_pretrained(pruned.out)
    assert (model.config.num_key_value_heads, model.config.num_attention_heads, model.config.head_dim) == (1, 2, 16)
    assert sum(parameter.numel() for parameter in model.parameters()) == made.parameters
    assert made.parameters < sum(one.numel() for one in AutoModelForCausalLM.from_pretrained(tiny).parameters())
    assert (pruned.out / "tokenizer.json").exists()
    assert read_card(pruned.out) == made
    assert "1 KV heads" in made.command


def test_impossible_sizes_are_refused(job, watcher):
    with pytest.raises(PruningRefused):
        prune_and_distill(job(method="full"), (None, 3, None), 4, watcher.environment)
    with pytest.raises(RecipeRefused, match="say what stays"):
        prune_and_distill(job(method="full"), (None, None, None), 4, watcher.environment)
    assert not job().out.exists()
