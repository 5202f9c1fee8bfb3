"""Tiny random models of every family that is counted, made from transformers' config classes."""

from dataclasses import dataclass
from typing import Any

SIZES = {
    "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 256,
    "max_position_embeddings": 128,
}  # fmt: skip
_TOKENS = {"vocab_size": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 96}
_LATENT = {"kv_lora_rank": 32, "q_lora_rank": 48, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32}
_DEEPSEEK = {
    **_EXPERTS, **_LATENT, "n_routed_experts": 8, "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1,
    "num_key_value_heads": 4,
}  # fmt: skip
_DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16, "head_dim": 32
}  # fmt: skip
_MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_SLIDING = {"sliding_window": 4}
_GPT2 = {"n_layer": 4, "n_embd": 128, "n_head": 4}
_OTHER_NAMES = {"gpt2", "gpt_bigcode", "gptj", "gpt_neox", "opt", "bloom", "falcon"}
"""Families whose configs have other names than `SIZES`, or leave something of it out."""

# By `model_type`; what follows a slash tells two of the same type apart.
FAMILIES: dict[str, dict[str, Any]] = {
    # dense
    "llama": {"tie_word_embeddings": True},
    "mistral": _SLIDING,
    "ministral": {"head_dim": 32, **_SLIDING},
    "ministral3": {"head_dim": 32},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 2, **_SLIDING},
    "qwen3": {"head_dim": 48},
    "gemma": {"head_dim": 48},
    "gemma2": {"head_dim": 48, **_SLIDING},
    "gemma3_text": {"head_dim": 48, **_SLIDING, "num_hidden_layers": 7},
    "granite": {},
    "helium": {"head_dim": 32},
    "phi": {},
    "phi3": _SLIDING,
    "olmo": {},
    "olmo2": {},
    "olmo3": _SLIDING,
    "cohere": {},
    "cohere2": _SLIDING,
    "glm": {"head_dim": 32},
    "glm4": {"head_dim": 32},
    "smollm3": {},
    "seed_oss": {"head_dim": 32},
    "hunyuan_v1_dense": {"head_dim": 32},
    "ernie4_5": {"head_dim": 32},
    "exaone4": _SLIDING,
    "nemotron": {},
    "arcee": {},
    "apertus": {},
    "stablelm": {},
    "starcoder2": _SLIDING,
    "gpt2": _GPT2,
    "gpt_bigcode": {**_GPT2, "multi_query": True},
    "gpt_neox": {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 320},
    "gptj": {**_GPT2, "rotary_dim": 16},
    "opt": {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "ffn_dim": 256, "word_embed_proj_dim": 128},
    "bloom": {"n_layer": 4, "n_head": 4, "hidden_size": 128},
    "falcon": {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "multi_query": True},
    "falcon/with key heads": {
        "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "new_decoder_architecture": True, "num_kv_heads": 2,
    },
    # experts
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**_EXPERTS, "num_experts": 8, "shared_expert_intermediate_size": 160, "decoder_sparse_step": 2},
    "qwen3_moe": {**_EXPERTS, "num_experts": 8, "mlp_only_layers": [1], "head_dim": 48},
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 2},
    "flex_olmo": {"num_experts": 8, "num_experts_per_tok": 2},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "granitemoeshared": {"num_local_experts": 8, "num_experts_per_tok": 2, "shared_intermediate_size": 160},
    "gpt_oss": {"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 32, **_SLIDING},
    "deepseek_v2": {**_DEEPSEEK, "q_lora_rank": None, "topk_method": "greedy"},
    "deepseek_v3": _DEEPSEEK,
    "glm4_moe": {**_EXPERTS, "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 2, "head_dim": 32},
    "glm4_moe_lite": _DEEPSEEK,
    "dots1": {**_EXPERTS, "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1, "head_dim": 32},
    "ernie4_5_moe": {"moe_num_experts": 8, "moe_k": 2, "moe_num_shared_experts": 1, "moe_intermediate_size": 96},
    "minimax_m2": {"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 32},
    "llama4_text": {
        "num_local_experts": 4, "num_experts_per_tok": 4, "intermediate_size": 96, "intermediate_size_mlp": 256, "head_dim": 32,
        "interleave_moe_layer_step": 2, "attention_chunk_size": 4,
    },
    # layers with a state
    "granitemoehybrid": {
        **_MAMBA2, "num_local_experts": 8, "num_experts_per_tok": 2, "shared_intermediate_size": 160,
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
    },
    "granitemoehybrid/without experts": {
        **_MAMBA2, "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 160,
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
    },
    "bamba": {**_MAMBA2, "attn_layer_indices": [1]},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 256},
    "mamba": {"state_size": 16, "time_step_rank": 8, "expand": 2},
    "falcon_mamba": {"state_size": 16, "time_step_rank": 8, "expand": 2},
    "mamba2": {"state_size": 16, "num_heads": 8, "head_dim": 32, "n_groups": 1, "expand": 2, "chunk_size": 8},
    "jamba": {
        "num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 8,
        "use_mamba_kernels": False, "mamba_d_state": 16,
    },
    "jamba/one expert": {
        "num_experts": 1, "num_experts_per_tok": 1, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 8,
        "use_mamba_kernels": False, "mamba_d_state": 16,
    },
    "nemotron_h": {
        **_EXPERTS, "moe_latent_size": 64, "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
        "ssm_state_size": 16, "mamba_num_heads": 8, "mamba_head_dim": 32, "n_groups": 1, "n_routed_experts": 8,
        "moe_shared_expert_intermediate_size": 160, "head_dim": 32, "n_group": 1,
        "topk_group": 1, "use_mamba_kernels": False, "chunk_size": 8,
    },
    "qwen3_next": {**_DELTA, **_EXPERTS, "num_experts": 8, "shared_expert_intermediate_size": 160},
    "qwen3_5_text": _DELTA,
    "qwen3_5_moe_text": {**_DELTA, **_EXPERTS, "num_experts": 8, "shared_expert_intermediate_size": 160},
    "lfm2": {"block_auto_adjust_ff_dim": True, "block_multiple_of": 64, "layer_types": ["conv", "full_attention", "conv", "conv"]},
    "lfm2_moe": {**_EXPERTS, "num_experts": 8, "num_dense_layers": 1, "layer_types": ["conv", "full_attention", "conv", "conv"]},
}  # fmt: skip


def tiny_config(family: str, **changes: Any) -> Any:
    """Return the config of a tiny model. `changes` are fields of it."""
    from transformers import AutoConfig

    model_type = family.partition("/")[0]
    sizes = {} if model_type in _OTHER_NAMES else SIZES
    return AutoConfig.for_model(model_type, **{**sizes, **_TOKENS, **FAMILIES.get(family, {}), **changes})


def tiny_model(family: str) -> Any:
    """Return a tiny model that computes attention and experts as plain matrix products."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = tiny_config(family)
    config._experts_implementation = "eager"
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@dataclass(frozen=True)
class TinyVision:
    """A tiny vision-language model: the fields of its config, the shapes of one image, and the tokens that it becomes."""

    config: dict[str, Any]
    inputs: dict[str, tuple[int, ...]]
    num_tokens: int
    grid: tuple[int, int, int] | None = None


_TEXT = {**SIZES, **_TOKENS}
_QWEN_TEXT = {**_TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]}}
_TOWER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
_QWEN_TOWER = {"depth": 3, "num_heads": 2, "patch_size": 4, "temporal_patch_size": 2, "spatial_merge_size": 2}
_QWEN3_TOWER = {
    **_QWEN_TOWER, "hidden_size": 64, "intermediate_size": 96, "out_hidden_size": 128, "deepstack_visual_indexes": [0],
    "num_position_embeddings": 64,
}  # fmt: skip
_SQUARE = {"pixel_values": (1, 3, 28, 28)}
_PATCHES = {"pixel_values": (64, 3 * 2 * 4 * 4)}

VISION: dict[str, TinyVision] = {
    "llava": TinyVision(
        {
            "text_config": {"model_type": "llama", **_TEXT}, "vision_feature_layer": -1,
            "vision_config": {"model_type": "clip_vision_model", **_TOWER, "image_size": 28, "patch_size": 7},
        },
        _SQUARE, 16,
    ),
    "gemma3": TinyVision(
        {
            "text_config": {"model_type": "gemma3_text", **_TEXT, "head_dim": 32}, "mm_tokens_per_image": 4,
            "vision_config": {"model_type": "siglip_vision_model", **_TOWER, "vision_use_head": False, "image_size": 28, "patch_size": 7},
        },
        _SQUARE, 4,
    ),
    "mistral3": TinyVision(
        {
            "text_config": {"model_type": "mistral", **_TEXT}, "spatial_merge_size": 2,
            "vision_config": {"model_type": "pixtral", **_TOWER, "image_size": 28, "patch_size": 7},
        },
        _SQUARE, 4, grid=(28, 28, 0),
    ),
    "idefics3": TinyVision(
        {
            "text_config": {"model_type": "llama", **_TEXT}, "scale_factor": 2,
            "vision_config": {"model_type": "idefics3_vision", **_TOWER, "image_size": 28, "patch_size": 7},
        },
        {"pixel_values": (1, 1, 3, 28, 28)}, 4,
    ),
    "internvl": TinyVision(
        {
            "text_config": {"model_type": "qwen2", **_TEXT},
            "vision_config": {"model_type": "internvl_vision", **_TOWER, "image_size": [28, 28], "patch_size": [7, 7]},
        },
        _SQUARE, 4,
    ),
    "qwen2_vl": TinyVision(
        {"text_config": _QWEN_TEXT, "vision_config": {**_QWEN_TOWER, "embed_dim": 64, "hidden_size": 128}}, _PATCHES, 16, grid=(1, 8, 8)
    ),
    "qwen2_5_vl": TinyVision(
        {
            "text_config": _QWEN_TEXT, "vision_config": {
                **_QWEN_TOWER, "hidden_size": 64, "intermediate_size": 96, "out_hidden_size": 128, "window_size": 16,
                "fullatt_block_indexes": [1],
            },
        },
        _PATCHES, 16, grid=(1, 8, 8),
    ),
    "qwen3_vl": TinyVision({"text_config": {**_TEXT, "head_dim": 32}, "vision_config": _QWEN3_TOWER}, _PATCHES, 16, grid=(1, 8, 8)),
    "qwen3_5": TinyVision(
        {"text_config": {**_TEXT, **_DELTA}, "vision_config": {**_QWEN3_TOWER, "deepstack_visual_indexes": []}},
        _PATCHES, 16, grid=(1, 8, 8),
    ),
    "qwen3_vl_moe": TinyVision(
        {"text_config": {**_TEXT, **_EXPERTS, "num_experts": 8, "head_dim": 32}, "vision_config": _QWEN3_TOWER},
        _PATCHES, 16, grid=(1, 8, 8),
    ),
}  # fmt: skip


def tiny_vision_model(family: str) -> Any:
    """Return a tiny vision-language model."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.for_model(family, **VISION[family].config)
    config.text_config._experts_implementation = "eager"
    return AutoModelForImageTextToText.from_config(config, attn_implementation="eager").eval()


def tiny_image(family: str) -> dict[str, Any]:
    """Return the arguments of `get_image_features` for one image."""
    import torch

    tiny = VISION[family]
    inputs = {name: torch.randn(shape) for name, shape in tiny.inputs.items()}
    if family.startswith("qwen"):
        inputs["image_grid_thw"] = torch.tensor([tiny.grid])
    if family == "mistral3":
        inputs["image_sizes"] = torch.tensor([tiny.grid[:2]])
    return inputs
