"""Checks peft's `adapter_config.json`. It is data only: nothing that it names is imported, opened or fetched.

Only plain LoRA can be swapped without merging it into the base. A field that makes the adapter anything else than plain
LoRA on the served base model is refused by name, with the reason. Fields that matter only to training are dropped. A
field that is not known here may be there only unset, since a later version of peft may give it a meaning.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from adapters.documents import read_document
from adapters.errors import AdapterRefused

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 262_144

UNSUPPORTED = {
    "use_dora": "DoRA rescales the base weights' columns, which the engine does not compute",
    "modules_to_save": "whole modules cannot be swapped, only low-rank updates",
    "lora_bias": "biases are not low-rank updates",
    "fan_in_fan_out": "the served model has no transposed weights",
    "rank_pattern": "ranks that differ between modules are not supported",
    "alpha_pattern": "scales that differ between modules are not supported",
    "layer_replication": "the served model's layers cannot be replicated",
    "target_parameters": "only whole linear modules can be targets",
    "trainable_token_indices": "embeddings cannot be swapped",
    "alora_invocation_tokens": "activated LoRA is not supported",
    "use_qalora": "QA-LoRA is not supported",
    "use_bdlora": "block-diagonal LoRA is not supported",
    "megatron_config": "Megatron's parallel layers are not supported",
}
"""Field -> the reason why it must be unset."""

TRAINING_ONLY = frozenset(
    [
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
    ]
)
"""Fields that say how the adapter was trained. What it computes follows from its tensors."""

CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")
"""Initialisations that change the base model's weights. On an unchanged base the adapter computes something else."""


class AdapterConfig(BaseModel):
    """The fields that decide what the adapter computes."""

    # Unknown fields are let through to `_is_plain`, which says why each of them is refused.
    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"] | None = None
    r: Annotated[int, Field(ge=1, le=65_536)]
    lora_alpha: Annotated[float, Field(gt=0, le=1e6)]
    use_rslora: bool = False
    bias: Literal["none"] = "none"
    target_modules: Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=1, max_length=4096)]
    init_lora_weights: bool | str | None = True

    @field_validator("peft_type", mode="before")
    @classmethod
    def _is_lora(cls, value: object) -> object:
        if value != "LORA":
            message = "only LoRA adapters can be served"
            raise ValueError(message)
        return value

    @field_validator("target_modules", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            message = "a pattern is not evaluated here: list the modules"
            raise ValueError(message)  # noqa: TRY004 - pydantic expects a ValueError
        return value

    @field_validator("init_lora_weights")
    @classmethod
    def _leaves_the_base_alone(cls, value: object) -> object:
        if isinstance(value, str) and value.lower().startswith(CHANGES_THE_BASE):
            message = f"`{value}` changes the base model's weights: convert it to plain LoRA when saving"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _is_plain(self) -> "AdapterConfig":
        for name, value in (self.model_extra or {}).items():
            if not value or name in TRAINING_ONLY:
                continue
            reason = UNSUPPORTED.get(name, "this field is not known, and what it asks for may matter")
            raise AdapterRefused(f"{CONFIG_FILE}: `{name}` must be unset: {reason}.", parameter=f"{CONFIG_FILE}:{name}")
        if len(self.normalised()) > MAX_CONFIG_BYTES:  # the config is written again and must stay readable
            raise AdapterRefused(f"{CONFIG_FILE}: `target_modules` is too long.", parameter=f"{CONFIG_FILE}:target_modules")
        return self

    @property
    def scale(self) -> float:
        """The factor of the product of B and A.

        It is alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).
        """
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)

    @property
    def declared_base(self) -> str | None:
        """The base model that the config names, shortened. It is shown to people and never opened."""
        declared = (self.model_extra or {}).get("base_model_name_or_path")
        return declared[:256] if isinstance(declared, str) else None

    def normalised(self) -> bytes:
        """Return the config that is served: only checked fields, in one spelling, so that equal configs hash alike."""
        fields: dict[str, Any] = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self.r,
            "lora_alpha": int(self.lora_alpha) if self.lora_alpha.is_integer() else self.lora_alpha,
            "use_rslora": self.use_rslora,
            "bias": "none",
            "target_modules": sorted({module.rsplit(".", 1)[-1] for module in self.target_modules} - {""}),
        }
        return json.dumps(fields, indent=2).encode()


def read_config(path: Path) -> AdapterConfig:
    """Return the checked config; raises `AdapterRefused` naming the field."""
    return read_document(AdapterConfig, path, MAX_CONFIG_BYTES)
