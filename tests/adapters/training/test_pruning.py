"""Structured pruning of tiny random models: parts without effect are removed first, and the logits stay the same."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config

from adapters.training.errors import PruningRefused
from adapters.training.pruning import Plan, measure, prune

SIZES = {
    "vocab_size": 50,
    "hidden_size": 48,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 64,
}
ALL = Plan(mlp_channels=24, kv_heads=3, num_layers=4)
CONFIGS: dict[str, Callable[[], LlamaConfig | Qwen2Config]] = {
    "llama": lambda: LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama with biases": lambda: LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "qwen2": lambda: Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen2 with windows": lambda: Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=3, max_window_layers=2),
}
TOKENS = torch.randint(3, 50, (2, 9), generator=torch.Generator().manual_seed(1))
BATCH = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}


@pytest.fixture(params=CONFIGS)
def model(request) -> PreTrainedModel:
    """A model whose parameters are all random, biases too."""
    return built(request.param)


def built(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(**BATCH).logits


def silence(linear: nn.Linear, columns: list[int] | slice) -> None:
    """Make these inputs of a module have no effect on its output."""
    with torch.no_grad():
        linear.weight[:, columns] = 0


def identity(layer: nn.Module) -> None:
    for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
        silence(linear, slice(None))
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_pruning_nothing_changes_nothing(model) -> None:
    before, parameters = logits(model), {name: p.clone() for name, p in model.named_parameters()}
    pruned = prune(model, measure(model, [BATCH]), ALL)
    assert_same(logits(pruned), before)
    assert all(torch.equal(p, parameters[name]) for name, p in pruned.named_parameters())
    assert pruned.config.head_dim == 8


def test_channels_without_effect_are_removed_first(model) -> None:
    """They are other channels in every layer."""
    silenced = [[index, 3 + index, 10 + 2 * index, 23] for index in range(4)]
    for layer, columns in zip(model.model.layers, silenced, strict=True):
        silence(layer.mlp.down_proj, columns)
    gates = [layer.mlp.gate_proj.weight.clone() for layer in model.model.layers]
    before = logits(model)
    pruned = prune(model, measure(model, [BATCH]), Plan(20, 3, 4))
    assert_same(logits(pruned), before)
    assert pruned.config.intermediate_size == 20
    for layer, gate, columns in zip(pruned.model.layers, gates, silenced, strict=True):
        kept = [channel for channel in range(24) if channel not in columns]
        assert torch.equal(layer.mlp.gate_proj.weight, gate[kept])
        assert (layer.mlp.gate_proj.out_features, layer.mlp.down_proj.in_features) == (20, 20)


@pytest.mark.parametrize("name", ["llama", "llama with biases"])
def test_head_groups_without_effect_are_removed_first(name) -> None:
    """A KV head is removed with both query heads that share it, and the other heads keep their size."""
    model, silenced = built(name), [0, 1, 2, 1]
    for layer, group in zip(model.model.layers, silenced, strict=True):
        silence(layer.self_attn.o_proj, slice(16 * group, 16 * (group + 1)))
    keys = [layer.self_attn.k_proj.weight.clone() for layer in model.model.layers]
    before = logits(model)
    pruned = prune(model, measure(model, [BATCH]), Plan(24, 2, 4))
    assert_same(logits(pruned), before)
    config = pruned.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 8)
    for layer, key, group in zip(pruned.model.layers, keys, silenced, strict=True):
        kept = [row for row in range(24) if row // 8 != group]
        assert torch.equal(layer.self_attn.k_proj.weight, key[kept])
        assert layer.self_attn.q_proj.weight.shape == (32, 48)


def test_layers_without_effect_are_removed_first(model) -> None:
    """What the config says of single layers is removed with them."""
    for index in (0, 2):
        identity(model.model.layers[index])
    stay, before = [model.model.layers[index] for index in (1, 3)], logits(model)
    importance = measure(model, [BATCH])
    torch.testing.assert_close(importance.layers[[0, 2]], torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-6)
    pruned = prune(model, importance, Plan(24, 3, 2))
    assert_same(logits(pruned), before)
    assert list(pruned.model.layers) == stay
    assert [layer.self_attn.layer_idx for layer in stay] == [0, 1]
    assert pruned.config.num_hidden_layers == 2
    if pruned.config.model_type == "qwen2" and pruned.config.use_sliding_window:
        assert pruned.config.layer_types == ["full_attention", "sliding_attention"]
        assert pruned.config.max_window_layers == 1


def test_a_pruned_model_is_an_ordinary_folder(model, tmp_path: Path) -> None:
    """After it is loaded again it computes and generates the same, and tied embeddings are still one matrix."""
    kv_heads = 2 if model.config.model_type == "llama" else 3
    pruned = prune(model, measure(model, [BATCH]), Plan(16, kv_heads, 3))
    shapes = {
        (tuple(layer.mlp.down_proj.weight.shape), tuple(layer.self_attn.o_proj.weight.shape)) for layer in pruned.model.layers
    }
    assert shapes == {((48, 16), (48, 16 * kv_heads))}
    pruned.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert_same(logits(again), logits(pruned))
    assert again.config.to_diff_dict() == pruned.config.to_diff_dict()
    tied = again.lm_head.weight.data_ptr() == again.model.embed_tokens.weight.data_ptr()
    assert tied == model.config.tie_word_embeddings
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(again.generate(**BATCH, **options), pruned.generate(**BATCH, **options))


def test_importance_is_the_mean_norm_of_what_a_part_adds(model) -> None:
    """It equals the difference of the projection's output with and without the part."""
    importance = measure(model, [BATCH])
    for index, layer in enumerate(model.model.layers):
        for linear, scores in ((layer.mlp.down_proj, importance.mlp[index]), (layer.self_attn.o_proj, importance.heads[index])):
            size, weight, outputs = linear.in_features // len(scores), linear.weight.clone(), []
            hook = linear.register_forward_hook(lambda _module, _args, output, outputs=outputs: outputs.append(output))
            logits(model)
            silence(linear, slice(size, 2 * size))
            logits(model)
            hook.remove()
            linear.weight.data = weight
            assert scores[1].item() == pytest.approx((outputs[0] - outputs[1]).norm(dim=-1).mean().item(), rel=1e-3)


def test_importance_of_layers_is_block_influence(model) -> None:
    """Transformers returns the states between layers; the last one is left out, since it is normalised."""
    with torch.no_grad():
        states = model(**BATCH, output_hidden_states=True).hidden_states[:-1]
    expected = [1 - torch.cosine_similarity(a, b, dim=-1).mean().item() for a, b in pairwise(states)]
    assert measure(model, [BATCH]).layers[:-1].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_count(model, side) -> None:
    """The distribution of tokens over batches makes no difference either."""
    rows, junk = [TOKENS[:1], TOKENS[1:, :5]], torch.full((1, 4), 2)
    alone = measure(model, [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows])
    ends = [(row, junk[:, : 9 - row.shape[1]]) for row in rows]
    order = slice(None, None, -1 if side == "left" else 1)
    together = {
        "input_ids": torch.cat([torch.cat(pair[order], dim=1) for pair in ends]),
        "attention_mask": torch.cat([torch.cat([torch.ones_like(a), torch.zeros_like(b)][order], dim=1) for a, b in ends]),
    }
    padded = measure(model, [together])
    for one, other in zip((*alone.mlp, *alone.heads, alone.layers), (*padded.mlp, *padded.heads, padded.layers), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_measuring_does_not_change_the_model(model) -> None:
    """Also not when reading the text fails."""

    def broken():
        yield BATCH
        raise OSError("the disk is gone")

    model.train()
    with pytest.raises(OSError, match="the disk is gone"):
        measure(model, broken())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_text_is_refused(model) -> None:
    with pytest.raises(PruningRefused, match="no calibration text"):
        measure(model, [{"input_ids": TOKENS, "attention_mask": torch.zeros_like(TOKENS)}])


@pytest.mark.parametrize(
    ("config", "plan", "message"),
    [
        ("llama", Plan(25, 3, 4), "cannot keep 25 MLP channels: the model has 24"),
        ("llama", Plan(0, 3, 4), "cannot keep 0 MLP channels"),
        ("llama", Plan(20, 3, 4), "cannot keep 20 MLP channels: it must be a multiple of 8"),
        ("llama", Plan(24, 4, 4), "cannot keep 4 KV heads: the model has 3"),
        ("llama", Plan(24, 3, 5), "cannot keep 5 layers: the model has 4"),
        ("llama", Plan(24, 3, 0), "cannot keep 0 layers"),
        ("qwen2", Plan(24, 2, 4), "vLLM cannot serve a qwen2 model with fewer heads"),
    ],
)
def test_impossible_plans_are_refused(config, plan, message) -> None:
    with pytest.raises(PruningRefused, match=message):
        plan.checked(CONFIGS[config](), multiple=8)


def test_heads_that_no_llama_config_allows_are_refused() -> None:
    """LlamaConfig refuses a hidden size that is no multiple of its heads, even with a `head_dim`."""
    config = LlamaConfig(**SIZES | {"hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4})
    with pytest.raises(PruningRefused, match="32 must be a multiple of the 6 query heads"):
        Plan(24, 3, 4).checked(config)


def test_unknown_modules_are_refused() -> None:
    config = LlamaConfig(**SIZES)
    config.model_type = "mixtral"
    with pytest.raises(PruningRefused, match="type mixtral, only llama and qwen2"):
        ALL.checked(config)


def test_a_refused_plan_leaves_the_model_alone(model) -> None:
    importance, before = measure(model, [BATCH]), logits(model)
    with pytest.raises(PruningRefused):
        prune(model, importance, Plan(16, 4, 2))
    assert torch.equal(logits(model), before)
    assert model.config.intermediate_size == 24


@given(
    plan=st.builds(Plan, st.integers(-1, 30), st.integers(-1, 5), st.integers(-1, 6)),
    multiple=st.integers(1, 30),
    config=st.sampled_from(sorted(CONFIGS)).map(lambda name: CONFIGS[name]()),
)
def test_a_plan_passes_exactly_when_it_fits(plan, multiple, config) -> None:
    fits = (
        (plan.mlp_channels == 24 or (0 < plan.mlp_channels < 24 and plan.mlp_channels % multiple == 0))
        and (plan.kv_heads == 3 or (plan.kv_heads in {1, 2} and config.model_type == "llama"))
        and 1 <= plan.num_layers <= 4
    )
    try:
        assert plan.checked(config, multiple) is plan
    except PruningRefused:
        assert not fits
    else:
        assert fits
