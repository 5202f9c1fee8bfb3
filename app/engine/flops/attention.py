"""Softmax attention: with grouped heads, and latent.

Latent attention (DeepSeek) is counted as vLLM computes it (`model_executor/layers/attention/mla_attention.py`, version 0.32). A
prefill projects the latent vectors up and attends with whole heads, and does so again for the positions that it finds in the KV
cache. A decoded token attends to the latent vectors themselves ("absorbed"), with the two halves of the up-projection applied to its
query and to its output. So the matrix products of a token are the same in both, and a position costs more FLOPs in decoding.
"""

from dataclasses import dataclass

from app.engine.flops.config import HEADS, HIDDEN, Config, size, size_or
from app.engine.flops.layers import Layers


@dataclass(frozen=True, slots=True)
class Heads:
    """The sizes of attention with grouped heads: of the model, of all query heads, and of all key heads."""

    hidden: int
    queries: int
    keys: int


def heads_of(config: Config, layer: int | None = None) -> Heads:
    """Return the sizes of grouped attention."""
    hidden, heads = size(config, *HIDDEN), size(config, *HEADS, layer=layer)
    head = size_or(hidden // heads, config, "head_dim", "attention_head_dim", "kv_channels", layer=layer)
    return Heads(hidden, heads * head, _num_key_heads(config, heads, layer) * head)


def _num_key_heads(config: Config, heads: int, layer: int | None) -> int:
    if config.get("multi_query") and not config.get("new_decoder_architecture"):  # Falcon, GPT BigCode
        return 1
    if config.get("multi_query_attention"):  # ChatGLM
        return size(config, "multi_query_group_num")
    if config.get("model_type") == "falcon" and not config.get("new_decoder_architecture"):
        return heads
    return size_or(heads, config, "num_key_value_heads", "num_kv_heads", "n_head_kv", layer=layer)


def grouped(heads: Heads, *, has_output_gate: bool = False) -> Layers:
    """Return the cost of grouped attention in one layer. Its output may be gated, by as many values as the queries have."""
    projections = heads.hidden * (heads.queries * (2 if has_output_gate else 1) + 2 * heads.keys)
    return Layers(per_token=2 * (projections + heads.queries * heads.hidden), per_position=4 * heads.queries)


def latent(config: Config) -> Layers:
    """Return the cost of latent attention in one layer."""
    hidden, heads, rank = size(config, *HIDDEN), size(config, *HEADS), size(config, "kv_lora_rank")
    plain, rotary, value = size(config, "qk_nope_head_dim"), size(config, "qk_rope_head_dim"), size(config, "v_head_dim")
    queries, up = heads * (plain + rotary), rank * heads * (plain + value)
    query_rank = size_or(0, config, "q_lora_rank")
    query_projections = query_rank * (hidden + queries) if query_rank else hidden * queries
    return Layers(
        per_token=2 * (query_projections + hidden * (rank + rotary) + up + heads * value * hidden),
        per_position=2 * heads * (plain + rotary + value),
        per_decoded_position=2 * heads * (rank + rotary + rank),
        per_cached=2 * up,
    )
