"""Layers that keep a state of fixed size instead of attending to all positions.

Counted as the recurrence defines it: for each token what writes into the state, what reads from it, and the short convolution before
it. Engines compute a prefill in chunks, with more operations that run faster; those are not counted.
"""

from app.engine.flops.config import HIDDEN, Config, find, size
from app.engine.flops.layers import Layers


def mamba(config: Config) -> Layers:
    """Return the cost of a Mamba layer (Gu and Dao 2023)."""
    hidden = size(config, *HIDDEN)
    inner = find(config, "intermediate_size") if find(config, "state_size") else None
    inner = inner or round(find(config, "mamba_expand", "expand") * hidden)
    state, kernel = size(config, "mamba_d_state", "state_size"), size(config, "mamba_d_conv", "conv_kernel")
    rank = size(config, "mamba_dt_rank", "time_step_rank")
    projections = hidden * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * hidden
    return Layers(per_token=2 * projections, per_state=2 * inner * (kernel + 2 * state))


def mamba2(config: Config) -> Layers:
    """Return the cost of a Mamba-2 layer (Dao and Gu 2024)."""
    hidden, heads = size(config, *HIDDEN), size(config, "mamba_n_heads", "mamba_num_heads", "num_heads")
    head = find(config, "mamba_d_head", "mamba_head_dim", "head_dim")
    if not isinstance(head, int):  # "auto"
        head = round(find(config, "mamba_expand", "expand") * hidden) // heads
    groups, state = size(config, "mamba_n_groups", "n_groups"), size(config, "mamba_d_state", "ssm_state_size", "state_size")
    inner, kernel = heads * head, size(config, "mamba_d_conv", "conv_kernel")
    mixed = inner + 2 * groups * state  # what the convolution mixes
    return Layers(
        per_token=2 * hidden * (inner + mixed + heads + inner),
        per_state=2 * (mixed * kernel + 2 * inner * state),
    )


def gated_delta_net(config: Config) -> Layers:
    """Return the cost of a gated delta net (Yang et al. 2024), the linear attention of Qwen3-Next."""
    hidden = size(config, *HIDDEN)
    key_heads, value_heads = size(config, "linear_num_key_heads"), size(config, "linear_num_value_heads")
    key_dim, value_dim = size(config, "linear_key_head_dim"), size(config, "linear_value_head_dim")
    keys, values = key_heads * key_dim, value_heads * value_dim
    projections = hidden * (2 * keys + 2 * values + 2 * value_heads) + values * hidden
    # A token reads the state twice, with its key and with its query, and writes it once.
    state = 3 * value_heads * key_dim * value_dim
    return Layers(
        per_token=2 * projections,
        per_state=2 * ((2 * keys + values) * size(config, "linear_conv_kernel_dim") + state),
    )


def short_convolution(config: Config) -> Layers:
    """Return the cost of a gated short convolution, as LFM2 has it."""
    hidden = size(config, *HIDDEN)
    return Layers(per_token=2 * 4 * hidden * hidden, per_state=2 * hidden * size(config, "conv_L_cache"))
