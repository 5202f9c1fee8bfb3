"""Which layer of a decoder is of which kind, and what it costs."""

from collections.abc import Callable
from dataclasses import replace

from app.engine.flops import attention, mlp, recurrent
from app.engine.flops.config import LAYERS, MAX_LAYERS, Config, find, size, size_or
from app.engine.flops.layers import Layers, group

FAMILIES = frozenset({
    # dense
    "apertus", "arcee", "bloom", "cohere", "cohere2", "ernie4_5", "exaone4", "falcon", "gemma", "gemma2", "gemma3_text", "glm",
    "glm4", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "granite", "helium", "hunyuan_v1_dense", "llama", "ministral",
    "ministral3", "mistral", "nemotron", "olmo", "olmo2", "olmo3", "opt", "phi", "phi3", "qwen2", "qwen3", "seed_oss",
    "smollm3", "stablelm", "starcoder2",
    # experts
    "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5_moe", "flex_olmo", "glm4_moe", "glm4_moe_lite", "gpt_oss", "granitemoe",
    "granitemoeshared", "llama4_text", "minimax_m2", "mixtral", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe",
    # layers with a state
    "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2", "lfm2_moe", "mamba", "mamba2", "nemotron_h",
    "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next",
    # decoders of vision-language models
    "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_vl", "qwen2_vl_text", "qwen3_vl_moe_text", "qwen3_vl_text",
})  # fmt: skip
"""Values of `model_type` whose FLOPs are counted. Each is compared with torch's counter (tests/engine/flops)."""

_RECURRENT_LAYERS: dict[str, Callable[[Config], Layers]] = {
    **dict.fromkeys(("jamba", "mamba", "falcon_mamba"), recurrent.mamba),
    **dict.fromkeys(("bamba", "falcon_h1", "granitemoehybrid", "mamba2", "nemotron_h"), recurrent.mamba2),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), recurrent.gated_delta_net),
    **dict.fromkeys(("lfm2", "lfm2_moe"), recurrent.short_convolution),
}
_GATED_OUTPUT = frozenset({"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"})
_HAS_SLIDING_LAYERS = {"gemma2": 2, "gpt_oss": 2, "cohere2": 4, "gemma3_text": 6}
"""The layers of a period, the last of which attends to all positions, where a config does not name the kind of each layer."""


def read_layers(config: Config) -> tuple[Layers, ...]:
    """Return the layers of a text model's config, equal ones together.

    Raises:
        ValueError: the config lacks a size.

    """
    return group(read_layer(config, number) for number in range(len(layer_kinds(config))))


def layer_kinds(config: Config) -> list[str]:
    """Return the kind of each layer: `full`, `sliding`, `chunked`, `recurrent`, `mlp` or `experts` (these two without attention).

    Raises:
        ValueError: the config does not name so many kinds as it has layers.

    """
    if (types := find(config, "layers_block_type", "layer_types")) is not None:
        count = size_or(min(len(types), MAX_LAYERS), config, *LAYERS)
        if count > len(types):
            message = f"the model's config has {len(types)} kinds of layers for {count} layers: its FLOPs cannot be counted"
            raise ValueError(message)
        return [_kind(one) for one in types[:count]]  # more than there are layers: those of a prediction head
    if pattern := config.get("hybrid_override_pattern"):  # Nemotron-H
        return [{"M": "recurrent", "*": "full", "-": "mlp", "E": "experts"}[one] for one in pattern]
    return [_kind_by_rule(config, number) for number in range(size(config, *LAYERS))]


def _kind(name: str) -> str:
    if name in {"moe", "mlp"}:
        return "mlp" if name == "mlp" else "experts"
    if name in {"mamba", "mamba2", "linear_attention", "conv", "recurrent"}:
        return "recurrent"
    return next((kind for kind in ("sliding", "chunked") if kind in name), "full")


def _kind_by_rule(config: Config, number: int) -> str:
    """Return the kind of a layer from what the family's modelling code makes of the config."""
    model = config.get("model_type", "")
    if model in {"mamba", "mamba2", "falcon_mamba"}:
        return "recurrent"
    if (attending := find(config, "attn_layer_indices")) is not None:  # Bamba
        return "full" if number in attending else "recurrent"
    if (period := find(config, "attn_layer_period")) is not None:  # Jamba
        return "full" if number % period == find(config, "attn_layer_offset") else "recurrent"
    if model in _GATED_OUTPUT:
        interval = find(config, "full_attention_interval") or 4
        return "full" if (number + 1) % interval == 0 else "recurrent"
    if find(config, "attention_chunk_size") is not None and model == "llama4_text":
        return "full" if (number + 1) % (find(config, "no_rope_layer_interval") or 4) == 0 else "chunked"
    if find(config, "sliding_window") is None or not config.get("use_sliding_window", True):
        return "full"
    if config.get("use_sliding_window") and number < (find(config, "max_window_layers") or 0):  # Qwen2
        return "full"
    period = find(config, "sliding_window_pattern", "_sliding_window_pattern") or _HAS_SLIDING_LAYERS.get(model)
    period = len(period) if isinstance(period, str) else period  # EXAONE 4 writes LLLG
    return "full" if isinstance(period, int) and (number + 1) % period == 0 else "sliding"


def read_layer(config: Config, number: int) -> Layers:
    """Return the cost of one layer, counted from 0. Raises `ValueError` where the config lacks a size."""
    kind = layer_kinds(config)[number]
    if kind in {"mlp", "experts"}:
        return Layers(per_token=mlp.dense(config, number) if kind == "mlp" else mlp.experts(config))
    mixer = _mixer(config, kind, number)
    return replace(mixer, per_token=mixer.per_token + _mlp(config, number))


def _mixer(config: Config, kind: str, number: int) -> Layers:
    """Return the cost of what mixes the tokens of one layer."""
    model = config.get("model_type", "")
    if kind == "recurrent":
        if model not in _RECURRENT_LAYERS:
            message = f"the recurrent layers of {model!r} are not known: their FLOPs cannot be counted"
            raise ValueError(message)
        return _RECURRENT_LAYERS[model](config)
    layer = (
        attention.latent(config)
        if find(config, "kv_lora_rank")
        else attention.grouped(attention.heads_of(config, number), has_output_gate=model in _GATED_OUTPUT)
    )
    if model == "falcon_h1":  # both, side by side
        state = recurrent.mamba2(config)
        return replace(layer, per_token=layer.per_token + state.per_token, per_state=state.per_state)
    if kind == "sliding" and config.get("use_sliding_window", True):
        return replace(layer, window=size(config, "sliding_window"))
    if kind == "chunked":
        return replace(layer, window=size(config, "attention_chunk_size"), is_chunked=True)
    return layer


def _mlp(config: Config, number: int) -> int:
    """Return the FLOPs of a layer's MLP or experts for one token."""
    if config.get("model_type") in {"mamba", "mamba2", "falcon_mamba", "nemotron_h"}:
        return 0  # a layer is either a mixer or an MLP
    if mlp.has_experts(config, number):
        return mlp.experts(config)
    if find(config, "shared_intermediate_size") and not find(config, "num_local_experts"):  # Granite 4 without experts
        return mlp.shared(config)
    return mlp.dense(config, number)
