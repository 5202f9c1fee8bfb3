"""Saves what a run has trained: an adapter that the store accepts, or an ordinary model folder."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from adapters.config import CONFIG_FILE, read_config
from adapters.disk import clear, flush, staging, write_whole
from adapters.weights import WEIGHTS_FILE

STAGING_FOLDER = ".incoming"


def save(model: Any, tokenizer: Any, out: Path, *, base: str) -> None:
    """Save the trained model into `out`; each file is there whole or not at all.

    An adapter's weights are rounded to bfloat16: servers compute in that format or a finer one, and the file is half as
    large. Its config keeps only the fields that decide what it computes, as the store does, and names its base instead
    of the base's local folder.
    """
    clear(out / STAGING_FOLDER)
    with staging(out / STAGING_FOLDER) as folder:
        model.save_pretrained(folder)
        if isinstance(model, PeftModel):
            _tidy(folder, base)
        else:
            tokenizer.save_pretrained(folder)
        for file in sorted(folder.iterdir()):
            flush(file)
            file.rename(out / file.name)
    flush(out)
    (out / STAGING_FOLDER).rmdir()


def _tidy(folder: Path, base: str) -> None:
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    config = folder / CONFIG_FILE
    raw = json.loads(config.read_text(encoding="utf-8"))
    if not raw.get("use_dora"):  # the store refuses DoRA, by this field
        raw = json.loads(read_config(config).normalised())
    write_whole(config, json.dumps({**raw, "base_model_name_or_path": base}, indent=2) + "\n")
    for file in folder.iterdir():
        if file.name not in (CONFIG_FILE, WEIGHTS_FILE):
            file.unlink()  # peft's model card, whose place the run card takes
