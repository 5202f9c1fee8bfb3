"""The cost of an architecture that nobody counted: 2 FLOPs for each active parameter and token (Kaplan et al. 2020), plus attention."""

from dataclasses import replace

from app.engine.flops.attention import grouped, heads_of, latent
from app.engine.flops.config import (
    EXPERT_INNER,
    EXPERTS,
    EXPERTS_PER_TOKEN,
    HIDDEN,
    LAYERS,
    MALFORMED,
    VOCABULARY,
    Config,
    find,
    number,
)
from app.engine.flops.decoder import layer_kinds
from app.engine.flops.layers import Layers, group
from app.engine.flops.mlp import has_experts


def estimate_layers(config: Config, parameters: int | None) -> tuple[Layers, ...]:
    """Return what the layers cost, from the number of the decoder's `parameters` and from what the config tells.

    Without `parameters` the model is taken for one with 12 parameters for each layer and square of its width, as dense transformers have.

    Raises:
        ValueError: neither the number of parameters nor the sizes for this are known.

    """
    layers, hidden = number(config, *LAYERS), number(config, *HIDDEN)
    if parameters is not None:
        # An embedding is looked up. The LM head is counted for each row of logits.
        tables = 1 if config.get("tie_word_embeddings") else 2
        active = parameters - tables * hidden * number(config, *VOCABULARY) - _idle_parameters(config)
    else:
        active = 12 * layers * hidden * hidden
    if active <= 0 and not parameters:
        message = "nothing is known of the model's size: its FLOPs cannot be counted"
        raise ValueError(message)
    products = Layers(per_token=2 * (active if active > 0 else parameters or 0))
    return (products, *_attention(config))


def _attention(config: Config) -> tuple[Layers, ...]:
    """Return the scores and values of the layers that attend, without windows; nothing where the config does not tell."""
    try:
        attending = [index for index, kind in enumerate(layer_kinds(config)) if kind in {"full", "sliding", "chunked"}]
        if find(config, "kv_lora_rank"):
            return (replace(latent(config), per_token=0, per_cached=0, count=len(attending)),)
        return group(replace(grouped(heads_of(config, index)), per_token=0) for index in attending)
    except MALFORMED:
        return ()


def _idle_parameters(config: Config) -> int:
    """Return the parameters of the experts that a token does not pass through."""
    experts, chosen = number(config, *EXPERTS), number(config, *EXPERTS_PER_TOKEN)
    if not experts or not chosen:
        return 0
    try:
        layers = sum(has_experts(config, index) for index in range(number(config, *LAYERS)))
    except MALFORMED:
        layers = number(config, *LAYERS)
    return layers * (experts - chosen) * 3 * number(config, *HIDDEN) * number(config, *EXPERT_INNER)
