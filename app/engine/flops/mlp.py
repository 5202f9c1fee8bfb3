"""The part of a layer behind its attention: a gated or plain MLP, or a router and the experts that it chooses."""

import math

from app.engine.flops.config import EXPERT_INNER, EXPERTS, EXPERTS_PER_TOKEN, HIDDEN, INNER, Config, find, size

_FOUR_TIMES = frozenset({"gpt2", "gpt_bigcode", "gpt_neo", "gptj", "codegen", "bloom", "falcon", "mpt"})
"""Values of `model_type` of models whose MLP is four times as wide as the model where the config names no width."""

_PLAIN = _FOUR_TIMES | {"gpt_neox", "opt", "phi", "starcoder2", "nemotron", "nemotron_h", "arcee", "apertus"}
"""Those whose MLP has no gate."""


def has_gate(config: Config) -> bool:
    """Tell whether the MLP has three matrices (gate, up, down) instead of two."""
    return config.get("model_type") not in _PLAIN


def inner_size(config: Config, layer: int | None = None) -> int:
    """Return the width of a dense MLP."""
    if config.get("model_type") in _FOUR_TIMES and find(config, *INNER) is None:
        return 4 * size(config, *HIDDEN)
    # Llama 4 has the width of experts in `intermediate_size`.
    width = size(config, "intermediate_size_mlp", *INNER, layer=layer)
    if not config.get("block_auto_adjust_ff_dim"):
        return width
    width, multiplier = 2 * width // 3, find(config, "block_ffn_dim_multiplier")  # LFM2
    if multiplier is None:
        return width
    step = size(config, "block_multiple_of")
    return math.ceil(int(multiplier * width) / step) * step


def dense(config: Config, layer: int | None = None) -> int:
    """Return the FLOPs of a dense MLP for one token."""
    return _mlp(config, inner_size(config, layer))


def experts(config: Config) -> int:
    """Return the FLOPs for one token of the router, the chosen experts, and the experts that all tokens share."""
    hidden, latent = size(config, *HIDDEN), find(config, "moe_latent_size")
    read = latent or hidden  # Nemotron-H may project what its experts read, and what they return
    chosen = size(config, *EXPERTS_PER_TOKEN) * _mlp(config, size(config, *EXPERT_INNER), read)
    projections = 2 * 2 * hidden * latent if latent else 0
    return 2 * hidden * size(config, *EXPERTS) + chosen + projections + shared(config)


def shared(config: Config) -> int:
    """Return the FLOPs for one token of the MLP that all tokens share, beside experts or instead of them; 0 without one."""
    if width := find(config, "shared_expert_intermediate_size"):  # Qwen: weighted by one more value of the token's
        return _mlp(config, width) + 2 * size(config, *HIDDEN)
    if width := find(config, "shared_intermediate_size", "moe_shared_expert_intermediate_size"):
        return _mlp(config, width)
    if config.get("model_type") == "llama4_text":
        return _mlp(config, size(config, "intermediate_size"))
    number = find(config, "n_shared_experts", "num_shared_experts", "moe_num_shared_experts") or 0
    return _mlp(config, number * size(config, *EXPERT_INNER)) if number else 0


def has_experts(config: Config, layer: int) -> bool:
    """Tell whether this layer, counted from 0, has experts."""
    if (find(config, *EXPERTS) or 0) < 2:  # one expert is a dense MLP: Jamba
        return False
    if (types := find(config, "mlp_layer_types")) is not None:
        return bool(types[layer] == "sparse")
    if (listed := find(config, "moe_layers")) is not None:  # Llama 4
        return layer in listed
    if isinstance(frequency := find(config, "moe_layer_freq"), list):  # one flag a layer
        return bool(frequency[layer])
    if (period := find(config, "expert_layer_period")) is not None:  # Jamba
        return bool(layer % period == find(config, "expert_layer_offset"))
    first = find(config, "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index") or 0
    last = find(config, "moe_layer_end_index")
    step = find(config, "decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval") or 1
    is_chosen = (
        layer >= first and (last in (None, -1) or layer <= last) and layer not in (find(config, "mlp_only_layers") or ())
    )
    return bool(is_chosen and layer % (frequency or 1) == 0 and (layer + 1) % step == 0)


def _mlp(config: Config, width: int, hidden: int | None = None) -> int:
    return 2 * (3 if has_gate(config) else 2) * (hidden or size(config, *HIDDEN)) * width
