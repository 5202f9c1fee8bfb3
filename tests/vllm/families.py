"""The tiny models that `test_families.py` serves on real vLLM, and the table of the documentation that is made of them."""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.engine.flops.decoder import FAMILIES
from tests.engine.flops import tiny


@dataclass(frozen=True)
class Family:
    """A family of models that is served here on vLLM's CPU back end.

    Attributes:
        title: the models by the name that people know.
        model_type: of the config.
        changes: to the config of `tests.engine.flops.tiny`, for what the CPU back end does not take.
        limits: what is known not to work, or to be different, for the table.
        is_quick: whether it is always served. The others are much like one of these, and are served with `FAMILIES=all`.

    """

    title: str
    model_type: str
    changes: dict[str, Any] = field(default_factory=dict)
    limits: str = ""
    is_quick: bool = True


# gpt-oss has a form of chats of its own, with the tokens of a larger vocabulary.
_HARMONY = {"vocab_size": 201_088, "pad_token_id": 199_999, "bos_token_id": 199_998, "eos_token_id": 200_002}
_DEEPSEEK = {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "kv_lora_rank": 512, "qk_rope_head_dim": 64}

GPT_OSS = Family("gpt-oss", "gpt_oss", _HARMONY)

SERVED = (
    Family("Llama", "llama"),
    Family("Qwen2", "qwen2", {"use_sliding_window": False}, "without sliding windows", is_quick=False),
    Family("Qwen3", "qwen3", {"head_dim": 32}, is_quick=False),
    Family("Qwen3 with experts", "qwen3_moe", {"head_dim": 32}),
    Family("Mixtral", "mixtral", is_quick=False),
    Family("DeepSeek-V3", "deepseek_v3", _DEEPSEEK),
    Family("Gemma 3", "gemma3_text", {"head_dim": 32}),
    Family("Granite 4", "granitemoehybrid"),
    Family("Persimmon", "persimmon"),
    Family("Phi-3", "phi3", {"sliding_window": None}, "without sliding windows", is_quick=False),
    Family("GPT-2", "gpt2", is_quick=False),
    GPT_OSS,
)


def is_chosen(one: "Family | Way") -> bool:
    """Return whether this run of the tests serves it."""
    return one.is_quick or os.environ.get("FAMILIES") == "all"


def write_model(family: Family, folder: Path, tokenizer: Path, *, has_weights: bool = True) -> None:
    """Write a tiny random model of the family into a folder, with the tokenizer of the embedded model, which is in `tokenizer`.

    Without weights it cannot be served, but vLLM's front end renders prompts for it and reads replies.
    """
    import torch
    from transformers import AutoModelForCausalLM

    size = len(json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    length = "n_positions" if "n_embd" in tiny.FAMILIES.get(family.model_type, {}) else "max_position_embeddings"
    config = tiny.tiny_config(family.model_type, **{"vocab_size": size, "pad_token_id": 2, length: 512, **family.changes})
    torch.manual_seed(0)
    (AutoModelForCausalLM.from_config(config) if has_weights else config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / name, folder)


@dataclass(frozen=True)
class Way:
    """A way of running a model that is tested here with a tiny one.

    Attributes:
        title: for the table.
        model_type: of the tiny model.
        options: of vLLM's engine.
        limits: for the table.
        is_quick: whether it is always served, and not with `FAMILIES=all` only.

    """

    title: str
    model_type: str
    options: tuple[str, ...]
    limits: str = ""
    is_quick: bool = True


DRAFT = Family("the draft model", "llama", {"num_hidden_layers": 1})
DRAFT_FOLDER = "DRAFT"
"""Stands for the folder of the draft model in options."""

_DRAFTS = f'{{"method": "draft_model", "model": "{DRAFT_FOLDER}", "num_speculative_tokens": 3}}'
_NGRAMS = '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3}'

WAYS = (
    Way("tensor parallelism", "llama", ("--tensor-parallel-size", "2")),
    Way("data parallelism", "llama", ("--data-parallel-size", "2")),
    Way(
        "speculative decoding with n-grams", "llama", ("--speculative-config", _NGRAMS), "`min_p` and `logit_bias` are refused"
    ),
    Way("speculative decoding with a draft model", "llama", ("--speculative-config", _DRAFTS), "the same"),
    Way("KV cache in eight bits", "llama", ("--kv-cache-dtype", "fp8"), is_quick=False),
)


def model_table() -> str:
    """A row for each family that is served in the tests, then those whose FLOPs alone are checked, then all others."""
    rows = ["| models | `model_type` | tested here | known limits |", "|---|---|---|---|"]
    for family in SERVED:
        flops = "FLOPs checked" if family.model_type in FAMILIES else "FLOPs estimated"
        served = "served on CPU" if family.is_quick else "served on CPU with `FAMILIES=all`"
        rows.append(f"| {family.title} | `{family.model_type}` | {served}, {flops} | {family.limits} |")
    counted = sorted(FAMILIES - {family.model_type for family in SERVED})
    rows.append(f"| further families | {', '.join(f'`{name}`' for name in counted)} | FLOPs checked | |")
    rows.append("| any other that vLLM serves | | | FLOPs are estimated |")
    return "\n".join(rows)


def way_table() -> str:
    """A row for each way of running a model that the tests take."""
    rows = ["| way | options | tested with | known limits |", "|---|---|---|---|"]
    for way in WAYS:
        tested = f"`{way.model_type}`" if way.is_quick else f"`{way.model_type}`, with `FAMILIES=all`"
        rows.append(f"| {way.title} | `{' '.join(way.options)}` | {tested} | {way.limits} |")
    return "\n".join(rows)
