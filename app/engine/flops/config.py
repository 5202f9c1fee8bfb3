"""Looks sizes up in a Hugging Face `config.json`, whose keys differ from family to family."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

Config = Mapping[str, Any]
_Read = TypeVar("_Read")

LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "model_dim")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
VOCABULARY = ("vocab_size", "padded_vocab_size")
INNER = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff")
EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts")
EXPERT_INNER = ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size", "ffn_hidden_size")

MAX_LAYERS = 1000
LARGEST = 2**40
"""The largest number of layers, and the largest of all other sizes. A config with a larger one makes no sense."""

MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError)
"""What reading a config raises that lacks a size or has one of another type."""

_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")


def text_config(config: Config) -> Config:
    """Return the part of a multimodal model's config that describes its decoder; the config itself where there is no such part."""
    while inner := next((config[name] for name in _TEXT_PARTS if config.get(name) and isinstance(config[name], Mapping)), None):
        config = inner
    return config


def find(config: Config, *names: str, layer: int | None = None) -> Any:
    """Return the first of these values that is there and not None. A list has one value for each layer."""
    value = next((config[name] for name in names if config.get(name) is not None), None)
    return value[layer] if isinstance(value, list | tuple) and layer is not None else value


def size(config: Config, *names: str, layer: int | None = None) -> int:
    """Return the first of these sizes that is there.

    Raises:
        ValueError: none of them is a whole number above 0 that a model can have.

    """
    value = find(config, *names, layer=layer)
    if not _is_size(value, names):
        message = f"the model's config has no usable {names[0]!r} ({repr(value)[:50]}): its FLOPs cannot be counted"
        raise ValueError(message)
    found: int = value
    return found


def _is_size(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= (MAX_LAYERS if names == LAYERS else LARGEST)


def size_or(default: int, config: Config, *names: str, layer: int | None = None) -> int:
    """Return the first of these sizes that is there, the default where none is. Raises `ValueError` as `size` does."""
    return default if find(config, *names) is None else size(config, *names, layer=layer)


def number(config: Config, *names: str) -> int:
    """Return the first of these sizes that is there, 0 where none is or makes sense, for an estimate."""
    value = find(config, *names)
    return value if _is_size(value, names) else 0


def attempt(read: Callable[[Config], _Read], config: Config, default: _Read) -> _Read:
    """Return what `read` makes of a config, the default where that raises one of `MALFORMED`."""
    with suppress(*MALFORMED):
        return read(config)
    return default
