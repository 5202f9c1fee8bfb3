"""Weights in eight bits: a model folder is converted once to what vLLM multiplies as integers (W8A8, in the compressed-tensors format).

Each row of a linear layer gets a scale of its own, each token's activations get theirs while the server runs: as in LLM.int8()'s
vector-wise quantisation (Dettmers et al. 2022, arXiv 2208.07339), without its outliers. compressed-tensors, which vLLM brings, writes it.
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

FORMAT = 1
"""Raised when the conversion changes, so that older conversions are not served."""


def check_processor(*, has_amx: bool, dtype: str, adapter_slots: int) -> None:
    """Raise `ModelUnavailable` for what vLLM 0.32's kernels for CPU do wrong, so that it is known before a model is loaded.

    With AMX they write bfloat16 whatever is asked; without, they give the weights away that LoRA would read.
    """
    if has_amx and dtype != "bfloat16":
        raise ModelUnavailable(f"this processor (AMX) computes int8 with bfloat16 only, not with {dtype}")
    if not has_amx and adapter_slots:
        raise ModelUnavailable("on this processor (no AMX) vLLM has no LoRA on int8 weights: set PONDER_ADAPTER_SLOTS=0")


def ensure_int8(model: Path, cache_dir: Path, say: Callable[[str], None]) -> Path:
    """The converted folder; made when it is not there yet, in a second for each gigabyte or a few.

    Raises `ModelUnavailable` when `model` is no folder with safetensors, or is quantised already.
    """
    weights = sorted(model.glob("*.safetensors"))
    if not weights or not (model / "config.json").is_file():
        raise ModelUnavailable(f"int8 is made of a local folder with safetensors and a config.json, and {model} is none")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise ModelUnavailable(f"{model} is quantised already: serve it without --quantization")
    # all files: the tokenizer and the chat template are copied
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
    # the LM head of a tied model is its embedding, which is looked up
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
    """Whether a tensor is the weight of a linear layer that is to be converted."""
    return name.endswith("_proj.weight") or (name == "lm_head.weight" and not is_tied)


def _is_known(name: str) -> bool:
    return _is_linear(name, is_tied=False) or name.endswith("embed_tokens.weight")
