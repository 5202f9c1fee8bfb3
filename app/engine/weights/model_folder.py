"""Refuses what is no model before vLLM is imported, which takes seconds. What vLLM itself refuses is left to it."""

import json
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from app.engine.flops.config import HIDDEN, LAYERS, find, number, text_config
from app.engine.weights.conversions import ModelUnavailable

GGUF = b"GGUF"
"""The first bytes of a GGUF file."""


def check_model(model: str) -> None:
    """Raise `ModelUnavailable` for a path at which nothing is, a file of an unknown format, and a config.json without sizes."""
    path = Path(model)
    if not path.exists():
        if model.startswith(("/", ".", "~")) or path.suffix == ".gguf":
            raise ModelUnavailable(f"{model}: there is no such {'file' if path.suffix else 'folder'}")
        return  # perhaps a model on the hub
    try:
        if path.is_file():
            with path.open("rb") as file:
                is_gguf = file.read(len(GGUF)) == GGUF
            if not is_gguf:
                raise ModelUnavailable(
                    f"{model}: a file of an unknown format: name a folder with safetensors and a config.json"
                )
            if not any("gguf" in plugin.value for plugin in entry_points(group="vllm.general_plugins")):
                raise ModelUnavailable(f"{model}: vLLM reads GGUF files with a plugin, on GPUs: pip install vllm-gguf-plugin")
        elif (config := path / "config.json").exists() and not _has_sizes(json.loads(config.read_text(encoding="utf-8"))):
            raise ModelUnavailable(f"{model}: its config.json names no usable sizes, such as hidden_size and num_hidden_layers")
    except OSError as error:
        raise ModelUnavailable(f"{model}: it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelUnavailable(f"{model}: its config.json is no JSON: {error}") from error


def _has_sizes(config: Any) -> bool:
    """Whether a config has sizes of the decoder that make sense. One of several parts may leave all of them to the defaults of a part."""
    if not isinstance(config, dict):
        return False
    if any(isinstance(part, Mapping) and "model_type" in part for part in config.values()):
        return True
    text = text_config(config)
    given = [names for names in (LAYERS, HIDDEN) if find(text, *names) is not None]
    return bool(given) and all(number(text, *names) for names in given)
