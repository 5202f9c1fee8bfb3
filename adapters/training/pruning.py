"""Structured pruning of a decoder-only transformer: fewer MLP channels, attention heads and layers.

The result is an ordinary model.

vLLM builds every layer of a model from the same sizes, so every layer keeps the same number of channels and heads.
Which of them are kept is chosen for each layer by their importance on calibration text. Call `Plan.checked`, `measure`
and `prune` in this order.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from adapters.training.errors import PruningRefused

KERNEL_MULTIPLE = 64
"""Sizes of 16-bit matrices suit an A100 best as multiples of 64 (NVIDIA's guide to matrix multiplication)."""

CAN_REMOVE_HEADS = {"llama": True, "qwen2": False}
"""Model type whose modules are known here -> whether heads may be removed.

Removing heads needs a `head_dim` of its own. vLLM 0.32 reads it for Llama, but computes hidden_size / heads for Qwen2
(models/qwen2.py).
"""


@dataclass(frozen=True, eq=False)
class Importance:
    """Importance of each part, on the CPU in float64. Values are comparable within a tensor only, not between layers.

    Attributes:
        mlp: one tensor a layer, [intermediate_size]: mean over tokens of the L2 norm of what a channel adds to the
            residual stream.
        heads: one tensor a layer, [num_key_value_heads]: the same for a KV head together with the query heads that
            share it.
        layers: [num_hidden_layers], 1 - mean cosine similarity of a layer's input and output; 0 for a layer that
            changes nothing.

    """

    mlp: tuple[Tensor, ...]
    heads: tuple[Tensor, ...]
    layers: Tensor


@dataclass(frozen=True)
class Plan:
    """What is kept: channels of each layer, KV heads of each layer (each with all of its query heads), and layers."""

    mlp_channels: int
    kv_heads: int
    num_layers: int

    def checked(self, config: PreTrainedConfig, multiple: int = KERNEL_MULTIPLE) -> "Plan":
        """Return this plan if a model of this config can be pruned to it and served afterwards.

        Args:
            config: of the unpruned model.
            multiple: a number of channels that differs from the model's own must be a multiple of it; at least 1.

        Raises:
            PruningRefused: it cannot; the message says why.

        """
        if config.model_type not in CAN_REMOVE_HEADS:
            raise PruningRefused(f"cannot prune a model of type {config.model_type}, only {' and '.join(CAN_REMOVE_HEADS)}")
        for kept, available, what in (
            (self.mlp_channels, config.intermediate_size, "MLP channels"),
            (self.kv_heads, config.num_key_value_heads, "KV heads"),
            (self.num_layers, config.num_hidden_layers, "layers"),
        ):
            if not 1 <= kept <= available:
                raise PruningRefused(f"cannot keep {kept} {what}: the model has {available}, and at least 1 must stay")
        if self.mlp_channels != config.intermediate_size and self.mlp_channels % multiple:
            raise PruningRefused(f"cannot keep {self.mlp_channels} MLP channels: it must be a multiple of {multiple}")
        if self.kv_heads != config.num_key_value_heads:
            self._check_heads(config)
        return self

    def _check_heads(self, config: PreTrainedConfig) -> None:
        if not CAN_REMOVE_HEADS[config.model_type]:
            raise PruningRefused(
                f"cannot keep {self.kv_heads} of {config.num_key_value_heads} KV heads: vLLM cannot serve a"
                f" {config.model_type} model with fewer heads than its hidden size implies"
            )
        if config.hidden_size % (heads := self.query_heads(config)):  # LlamaConfig would refuse to be saved
            raise PruningRefused(
                f"cannot keep {self.kv_heads} KV heads: the hidden size {config.hidden_size}"
                f" must be a multiple of the {heads} query heads that go with them"
            )

    def query_heads(self, config: PreTrainedConfig) -> int:
        """Return how many query heads each layer keeps."""
        return int(self.kv_heads * config.num_attention_heads // config.num_key_value_heads)


class _LayerStatistics:
    """Sums the importance of one layer and its parts over tokens.

    `mask` [batch, sequence] selects the tokens that count.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.mask = torch.empty(0, dtype=torch.bool)
        self.mlp: Any = 0.0
        self.heads: Any = 0.0
        self.layer: Any = 0.0
        attention = layer.self_attn
        self._kv_heads = attention.k_proj.out_features // attention.head_dim
        self.hooks = (
            layer.mlp.down_proj.register_forward_pre_hook(self._add_mlp),
            attention.o_proj.register_forward_pre_hook(self._add_heads),
            layer.register_forward_hook(self._add_layer),
        )

    def _tokens(self, states: Tensor) -> Tensor:
        return states[self.mask.to(states.device)].float()

    def _add_mlp(self, down: nn.Module, args: tuple[Tensor, ...]) -> None:
        # Channel j adds a_j W_:j to the residual stream, and ||a_j W_:j|| = |a_j| ||W_:j||.
        self.mlp += (self._tokens(args[0]).abs().sum(0) * down.weight.float().norm(dim=0)).double().cpu()

    def _add_heads(self, out: nn.Module, args: tuple[Tensor, ...]) -> None:
        # Query heads that share a KV head are adjacent, so that a group is one contiguous part of the input.
        states = self._tokens(args[0]).chunk(self._kv_heads, dim=1)
        weights = out.weight.float().chunk(self._kv_heads, dim=1)
        norms = [(state @ weight.T).norm(dim=1).sum() for state, weight in zip(states, weights, strict=True)]
        self.heads += torch.stack(norms).double().cpu()

    def _add_layer(self, _layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        similarity = nn.functional.cosine_similarity(self._tokens(args[0]), self._tokens(output), dim=1)
        self.layer += (1 - similarity).sum().double().cpu()


def measure(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]) -> Importance:
    """Run calibration text through a model and return the importance of its parts.

    Channels and groups of heads are scored by the mean norm of what they add to the residual stream. For channels this
    is Wanda's |weight| x norm of its input (Sun et al. 2023, arXiv 2306.11695), over whole columns of down_proj as in
    the Wanda-sp of An et al. (2023, arXiv 2312.11983), but with the L2 norm of the column and the mean of the
    activation. For heads it is Minitron's norm of a head's output (Muralidharan et al. 2024, arXiv 2407.14679), taken
    after o_proj. Layers are scored by ShortGPT's Block Influence (Men et al. 2024, arXiv 2403.03853).

    Args:
        model: of a type that `Plan.checked` accepts; it is not changed.
        batches: `input_ids` and `attention_mask`, both [batch, sequence]; tokens whose mask is 0 do not count.

    Raises:
        PruningRefused: the batches hold no token.

    """
    tokens = 0
    with torch.no_grad(), ExitStack() as undo:
        undo.callback(model.train, model.training)
        model.eval()
        statistics = [_LayerStatistics(layer) for layer in model.model.layers]
        for hook in (hook for layer in statistics for hook in layer.hooks):
            undo.callback(hook.remove)
        for batch in batches:
            mask = batch["attention_mask"].to(model.device)
            for layer in statistics:
                layer.mask = mask.bool()
            model.model(input_ids=batch["input_ids"].to(model.device), attention_mask=mask, use_cache=False)
            tokens += int(mask.bool().sum())
    if not tokens:
        raise PruningRefused("there is no calibration text to measure importance on")
    return Importance(
        mlp=tuple(layer.mlp / tokens for layer in statistics),
        heads=tuple(layer.heads / tokens for layer in statistics),
        layers=torch.stack([layer.layer / tokens for layer in statistics]),
    )


def prune(model: PreTrainedModel, importance: Importance, plan: Plan) -> PreTrainedModel:
    """Remove all but the most important parts of a model, in place, and update its config.

    Args:
        model: it is changed and returned; `save_pretrained` writes it as an ordinary folder.
        importance: measured on this model.
        plan: what is kept. Whether its channels suit the kernels is checked by `Plan.checked` alone.

    Raises:
        PruningRefused: the plan does not fit the model, which is not changed then.

    """
    plan.checked(model.config, multiple=1)
    decoder = model.model
    kept = _best(importance.layers, plan.num_layers).tolist()
    for position, index in enumerate(kept):
        layer = decoder.layers[index]
        _keep_channels(layer.mlp, _best(importance.mlp[index], plan.mlp_channels))
        _keep_heads(layer.self_attn, _best(importance.heads[index], plan.kv_heads))
        layer.self_attn.layer_idx = position  # transformers finds a layer's KV cache by it
    decoder.layers = nn.ModuleList(decoder.layers[index] for index in kept)
    _describe(model.config, plan, kept, decoder.layers[0].self_attn.head_dim)
    return model


def _best(scores: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` highest scores, in ascending order. Of equal scores the first are kept."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def _keep_channels(mlp: nn.Module, kept: Tensor) -> None:
    _keep_rows(mlp.gate_proj, kept)
    _keep_rows(mlp.up_proj, kept)
    _keep_columns(mlp.down_proj, kept)


def _keep_heads(attention: nn.Module, kept: Tensor) -> None:
    of_kv = _spread(kept, attention.head_dim)
    of_query = _spread(kept, attention.head_dim * attention.num_key_value_groups)
    _keep_rows(attention.q_proj, of_query)
    _keep_rows(attention.k_proj, of_kv)
    _keep_rows(attention.v_proj, of_kv)
    _keep_columns(attention.o_proj, of_query)


def _spread(blocks: Tensor, size: int) -> Tensor:
    """Return the indices of all elements of these blocks, which have `size` elements each."""
    return (blocks[:, None] * size + torch.arange(size)).flatten()


def _keep_rows(linear: nn.Linear, kept: Tensor) -> None:
    linear.weight = _selected(linear.weight, 0, kept)
    if linear.bias is not None:
        linear.bias = _selected(linear.bias, 0, kept)
    linear.out_features = len(kept)


def _keep_columns(linear: nn.Linear, kept: Tensor) -> None:
    linear.weight = _selected(linear.weight, 1, kept)
    linear.in_features = len(kept)


def _selected(parameter: nn.Parameter, dim: int, kept: Tensor) -> nn.Parameter:
    values = parameter.detach().index_select(dim, kept.to(parameter.device))
    return nn.Parameter(values, requires_grad=parameter.requires_grad)


def _describe(config: PreTrainedConfig, plan: Plan, kept: list[int], head_dim: int) -> None:
    """Update the config. `head_dim` is set since it is no longer hidden_size / heads."""
    heads = plan.query_heads(config)
    config.intermediate_size = plan.mlp_channels
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = heads, plan.kv_heads, head_dim
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in kept]
    if hasattr(config, "max_window_layers"):  # Qwen2: that many layers from the first see all tokens
        config.max_window_layers = sum(index < config.max_window_layers for index in kept)
