"""How right a model in training answers: a copy of it, as it would be served, is asked greedily."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

from benchmarks.suite.families import FAMILIES
from benchmarks.suite.questions import Example

ASKED_TOGETHER = 100
ROUNDS = (16, 48, 64, 128)
"""Tokens after which what has ended is taken out of the batch: most answers are short, and a few never end."""


def served(model: Any, folder: Path) -> Any:
    """In bfloat16, adapters merged into the unquantised base: what is trained has weights in float32, or in 4 bits."""
    copy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    if isinstance(model, PeftModel):
        with_adapter = get_peft_model(copy, model.peft_config["default"])
        set_peft_model_state_dict(with_adapter, get_peft_model_state_dict(model))
        copy = with_adapter.merge_and_unload()
    else:
        copy.load_state_dict(model.state_dict())
    return copy.to(model.device).eval()


def num_right(model: Any, tokenizer: Any, asked: Sequence[Example]) -> int:
    """Right greedy answers. Questions of like length are asked together."""
    tokenizer.padding_side = "left"
    ordered = sorted(asked, key=lambda one: len(one.prompt))
    right = 0
    for start in range(0, len(ordered), ASKED_TOGETHER):
        some = ordered[start : start + ASKED_TOGETHER]
        texts = _answers(model, tokenizer, [one.prompt for one in some])
        right += sum(FAMILIES[one.family].kind.is_right(text, one.answer) for one, text in zip(some, texts, strict=True))
    return right


def _answers(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    begun = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True)["input_ids"]
    said: list[list[int]] = [[] for _ in prompts]
    open_ones = list(range(len(prompts)))
    for size in ROUNDS:
        if not open_ones:
            break
        rows = [{"input_ids": [*begun[place], *said[place]]} for place in open_ones]
        inputs = tokenizer.pad(rows, return_tensors="pt").to(model.device)
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=size, do_sample=False)[:, inputs["input_ids"].shape[1] :].tolist()
        for place, new in zip(open_ones, ids, strict=True):
            said[place] += new
        open_ones = [place for place in open_ones if tokenizer.eos_token_id not in said[place]]
    return [tokenizer.decode(_until(ids, tokenizer.eos_token_id), skip_special_tokens=True) for ids in said]


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids
