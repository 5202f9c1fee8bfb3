"""Adapters made up: peft folders of random weights that fit a model, as good as real ones for everything but their answers."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from adapters.weights import BaseModel

CONFIG = {
    "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": "some/base", "bias": "none", "fan_in_fan_out": False,
    "inference_mode": True, "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None, "loftq_config": {},
    "lora_bias": False, "lora_dropout": 0.05, "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None,
    "peft_type": "LORA", "peft_version": "0.18.0", "qalora_group_size": 16, "rank_pattern": {}, "revision": None,
    "task_type": "CAUSAL_LM", "use_dora": False, "use_qalora": False, "use_rslora": False,
}  # fmt: skip
"""What peft writes beside rank, alpha and target modules."""


def tensor_name(layer: int, module: str, side: str) -> str:
    """As peft names it."""
    part = "self_attn" if module in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
    return f"base_model.model.model.layers.{layer}.{part}.{module}.lora_{side}.weight"


def tensors(
    base: BaseModel, *, rank: int, modules: Iterable[str], layers: Iterable[int], seed: int = 0, scale: float = 0.01
) -> dict[str, np.ndarray]:
    """A and B of each module in each layer, float32, normally distributed."""
    random = np.random.default_rng(seed)
    made = {}
    for layer in layers:
        for module in modules:
            inputs, outputs = base.modules[module]
            for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                made[tensor_name(layer, module, side)] = (scale * random.standard_normal(shape)).astype(np.float32)
    return made


def write(
    folder: Path,
    base: BaseModel,
    *,
    rank: int = 4,
    modules: Iterable[str] = ("v_proj",),
    layers: Iterable[int] | None = None,
    seed: int = 0,
    scale: float = 0.01,
    **config: Any,
) -> Path:
    """A whole peft folder, with what peft puts beside the two files."""
    modules = list(modules)
    folder.mkdir(parents=True, exist_ok=True)
    fields = {**CONFIG, "r": rank, "lora_alpha": 2 * rank, "target_modules": modules, **config}
    (folder / "adapter_config.json").write_text(json.dumps(fields, indent=2))
    (folder / "README.md").write_text("A model card.\n")
    found = range(base.num_layers) if layers is None else layers
    save_file(
        tensors(base, rank=rank, modules=modules, layers=found, seed=seed, scale=scale), folder / "adapter_model.safetensors"
    )
    return folder
