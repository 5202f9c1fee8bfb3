"""The accuracy of a model in training: it is written to a folder as it would be served, and the server's engine answers greedily.

`python -m benchmarks.training_evaluation FOLDER QUESTIONS TASK…` is a process of its own, so that its memory is released.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

from app.engine.build import build_engine
from app.lifespan import running
from app.request import Caller, InferenceRequest
from app.serving.service import Service
from app.settings import Settings
from benchmarks.suite import questions
from benchmarks.suite.families import FAMILIES
from benchmarks.suite.questions import Example

BINS = (1, 2)
MAX_TOKENS = 256


def num_right(model: Any, tokenizer: Any, base: Path, tasks: Sequence[str], num_questions: int) -> tuple[int, int]:
    """Return the numbers of right greedy answers and of questions: the first `num_questions` validation questions of each task and bin."""
    with tempfile.TemporaryDirectory() as folder:
        _served(model, base).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        command = [sys.executable, "-m", "benchmarks.training_evaluation", folder, str(num_questions), *tasks]
        *_, last = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    right, of = last.split()
    return int(right), int(of)


def _served(model: Any, base: Path) -> Any:
    """Return the model in bfloat16, with its adapter merged into the unquantised base. In training its weights have float32 or 4 bits."""
    copy = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    if isinstance(model, PeftModel):
        with_adapter = get_peft_model(copy, model.peft_config["default"])
        set_peft_model_state_dict(with_adapter, get_peft_model_state_dict(model))
        return with_adapter.merge_and_unload()
    copy.load_state_dict(model.state_dict())
    return copy


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_evaluation", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("num_questions", type=int, help="of each task and bin")
    parser.add_argument("tasks", nargs="+")
    arguments = parser.parse_args()
    settings = [(name, number) for name in arguments.tasks for number in BINS]
    found = [
        one for name, number in settings for one in questions.examples(name, number, "validation", arguments.num_questions)
    ]
    right = asyncio.run(_num_right(arguments.folder, found))
    print(right, len(found), flush=True)


async def _num_right(folder: Path, examples: Sequence[Example]) -> int:
    settings = Settings(
        model=str(folder), adapter_slots=0, max_model_len=1024, kv_cache_gib=2, max_branches=256, max_branches_per_key=4096,
        max_waiting_branches=4096,
    )  # fmt: skip
    async with running(settings, build_engine(settings)) as service:
        return sum(await asyncio.gather(*(_is_right(service, one) for one in examples)))


async def _is_right(service: Service, one: Example) -> bool:
    body = {"messages": [{"role": "user", "content": one.prompt}], "temperature": 0.0, "max_tokens": MAX_TOKENS}
    request = InferenceRequest(
        id="look", bodies=(body,), is_chat=True, question=one.prompt, num_chars=len(one.prompt), strategy="direct",
        temperature=0.0,
    )  # fmt: skip
    async with service.open(request, Caller("training")) as session:
        outcome = await session.run(lambda _number, _event: None)
    return FAMILIES[one.family].kind.is_right(outcome.results[0].chosen[0].candidate.text, one.answer)


if __name__ == "__main__":
    main()
