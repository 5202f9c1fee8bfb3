"""Weights in eight bits (W8A8): a model folder is converted once, and vLLM then multiplies integers.

Each row of a linear layer gets a scale of its own. The activations of each token get theirs while the server runs. This is the
vector-wise quantisation of LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339) without its treatment of outliers. The library
compressed-tensors, which comes with vLLM, writes the weights in its own format.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open

from app.engine.weights.conversions import ModelUnavailable, made_once

NAME = "int8"
"""The value of the setting `quantization` that asks for this conversion."""

FORMAT = 1
"""Version of the conversion. A change of it leaves older conversions unused."""


def check_processor(*, has_amx: bool, dtype: str, adapter_slots: int) -> None:
    """Raise `ModelUnavailable` for what vLLM's CPU kernels cannot do (0.32), before a model is loaded.

    With AMX instructions their results are bfloat16, whatever number format was asked for. Without AMX they free the original weights
    after repacking them, and vLLM's LoRA layers read those.
    """
    if has_amx and dtype != "bfloat16":
        raise ModelUnavailable(f"this processor (AMX) computes int8 with bfloat16 only, not with {dtype}")
    if not has_amx and adapter_slots:
        raise ModelUnavailable("on this processor (no AMX) vLLM has no LoRA on int8 weights: set PONDER_ADAPTER_SLOTS=0")


def ensure_int8(model: Path, cache_dir: Path, say: Callable[[str], None]) -> Path:
    """Return the folder of the converted model, and convert it first if it is not there yet (a few seconds for each gigabyte).

    Args:
        model: a folder with safetensors and a config.json.
        cache_dir: where converted models are kept.
        say: called with a line for the operator before a conversion.

    Raises:
        ModelUnavailable: `model` is no such folder, is quantised already, or has layers of an unknown kind.

    """
    weights = sorted(model.glob("*.safetensors"))
    if not weights or not (model / "config.json").is_file():
        raise ModelUnavailable(f"int8 is made of a local folder with safetensors and a config.json, and {model} is none")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise ModelUnavailable(f"{model} is quantised already: serve it without --quantization")
    # The name depends on all files, since the tokenizer and the chat template are copied too.
    marks = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(model.iterdir()) if path.is_file()]
    digest = hashlib.sha256(json.dumps([config, marks]).encode()).hexdigest()[:12]
    folder = cache_dir / f"{model.name}-int8-{digest}-{FORMAT}"

    def make(unfinished: Path) -> None:
        say(f"converting {model} to int8 in {folder} (once)")
        has_head = any("lm_head.weight" in _names(path) for path in weights)
        is_tied = config.get("tie_word_embeddings", False) or not has_head
        try:
            _convert(model, unfinished, is_tied=is_tied)
        except ValueError as error:
            raise ModelUnavailable(f"{model} cannot be converted to int8: {error}") from error

    return made_once(folder, make)


def _names(weights: Path) -> list[str]:
    with safe_open(weights, framework="np") as file:
        return list(file.keys())


def _convert(model: Path, folder: Path, *, is_tied: bool) -> None:
    os.environ.setdefault("COMPRESSED_TENSORS_LOG_DISABLED", "1")
    from compressed_tensors.compressors import BaseCompressor  # noqa: PLC0415 - imports torch
    from compressed_tensors.entrypoints.convert import convert_checkpoint  # noqa: PLC0415
    from compressed_tensors.quantization import (  # noqa: PLC0415
        QuantizationConfig,
        QuantizationStatus,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import calculate_qparams  # noqa: PLC0415

    form = "int-quantized"
    # A tied model uses its embeddings as LM head. They are looked up, not multiplied, so they stay as they are.
    scheme = preset_name_to_scheme("INT8", ["Linear"] if is_tied else ["Linear", "re:.*lm_head"])
    scheme.format = form
    compressor = BaseCompressor.get_value_from_registry(form)

    class ToInt8:
        def process(self, tensors: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for name, tensor in tensors.items():
                if not _is_linear(name, is_tied=is_tied):
                    found[name] = tensor
                    continue
                scale, _ = calculate_qparams(tensor.amin(1, keepdim=True), tensor.amax(1, keepdim=True), scheme.weights)
                made = compressor.compress({"weight": tensor, "weight_scale": scale}, scheme)
                found |= {f"{name.removesuffix('.weight')}.{part}": value for part, value in made.items()}
            return found

        def validate(self, tensors: dict[str, Any]) -> None:
            for name, tensor in tensors.items():
                if tensor.dim() > 1 and not _is_known(name):
                    raise ModelUnavailable(f"{model} has {name}, of a kind that is not converted to int8")

        def create_config(self) -> QuantizationConfig:
            return QuantizationConfig(
                config_groups={"group_0": scheme},
                ignore=["lm_head"] if is_tied else [],
                format=form,
                quantization_status=QuantizationStatus.COMPRESSED,
            )

        def get_dependencies(self, weight_name: str) -> set[str]:  # noqa: ARG002 - the protocol's
            return set()

    convert_checkpoint(str(model), str(folder), ToInt8())


def _is_linear(name: str, *, is_tied: bool) -> bool:
    """Whether a tensor is the weight of a linear layer that is converted."""
    return name.endswith("_proj.weight") or (name == "lm_head.weight" and not is_tied)


def _is_known(name: str) -> bool:
    """Whether a matrix is of a kind that is converted, or that may stay as it is. Models with other matrices are refused."""
    return _is_linear(name, is_tied=False) or name.endswith("embed_tokens.weight")
