"""The linear modules of a model that LoRA can update, for the check of adapters."""

from app.engine.flops import mlp
from app.engine.flops.attention import Heads, heads_of
from app.engine.flops.config import EXPERTS, LAYERS, Config, find, size
from app.engine.flops.decoder import layer_kinds

LINEAR_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear modules of a layer, by their names in Hugging Face's models."""

Modules = tuple[tuple[str, int, int], ...]
"""Names with the sizes of inputs and outputs."""


def read_modules(config: Config) -> Modules:
    """Return the linear modules that every layer of a text model has in the same size; none of experts or of latent attention."""
    if find(config, "kv_lora_rank") or {"recurrent", "mlp", "experts"} & set(layer_kinds(config)):
        return ()
    numbers = range(size(config, *LAYERS))
    heads = {heads_of(config, number) for number in numbers}
    widths = set() if find(config, *EXPERTS) else {mlp.inner_size(config, number) for number in numbers}
    if len(heads) > 1:
        return ()
    return dense_modules(heads.pop(), widths.pop() if len(widths) == 1 else None)


def dense_modules(heads: Heads, inner: int | None = None) -> Modules:
    """Return the modules of grouped attention, and those of an MLP of this width if there is one."""
    hidden, queries, keys = heads.hidden, heads.queries, heads.keys
    outer = ((hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden))
    mlp_shapes = () if inner is None else ((hidden, inner), (hidden, inner), (inner, hidden))
    return tuple((name, *shape) for name, shape in zip(LINEAR_MODULES, outer + mlp_shapes, strict=False))
