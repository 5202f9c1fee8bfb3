"""Measures an adapter that thinks against the one that it was made from: right answers, tokens, and what its checks are worth.

Prompts are rendered here and sent as tokens, so that the thinking can be cut in front of its check: what the adapter answers then
tells whether the solution was wrong before it was checked.
"""

import asyncio
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel
from transformers import AutoTokenizer

from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from benchmarks.quality.stats import wilson
from benchmarks.report import Table
from benchmarks.suite import questions
from benchmarks.suite.checks import RIGHT, WAIT
from benchmarks.suite.families import BINS, FAMILIES, TRAINING
from benchmarks.suite.questions import Example

KEY = "mending"
END = "\n</think>\n\n"
MAX_TOKENS = 800
CONCURRENCY = 32
RUNS = {"reasoning": 0.0, "thinking": 0.0, "thinking, temperature 0.7": 0.7, "thinking, enable_thinking false": 0.0}
"""Temperature of each run by its name."""


class Answer(BaseModel):
    """One answer.

    Attributes:
        is_right: the final answer, behind the thinking.
        is_closed: whether the thinking ended, True without thinking.
        verdict: of the check: `yes`, `no`, or "" where there is none.
        was_right: the answer that the solution has without its check; None where there is no check.

    """

    run: str
    task: str
    bin: int
    text: str
    tokens: int
    is_right: bool
    is_closed: bool = True
    verdict: str = ""
    was_right: bool | None = None


Complete = Callable[[str, str, float], Any]
"""(adapter, prompt, temperature) -> text and number of tokens, awaited."""


async def answer_all(url: str, per_setting: int, skip: int, template: str) -> list[Answer]:
    """Return the answers of all runs to questions of the split `validation`."""
    tokenizer = AutoTokenizer.from_pretrained(ensure_default_model(Settings().cache_dir.expanduser(), print))
    gate = asyncio.Semaphore(CONCURRENCY)
    render = partial(tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=True)
    thinks = partial(render, chat_template=template)
    asked = questions.mixed([family.name for family in TRAINING], list(BINS), "validation", per_setting, skip)

    async def complete(adapter: str, prompt: str, temperature: float) -> tuple[str, int]:
        tokens = tokenizer(prompt, add_special_tokens=False).input_ids
        body = {"model": adapter, "prompt": tokens, "max_tokens": MAX_TOKENS, "temperature": temperature, "seed": 1}
        async with gate:
            reply = await client.post("/v1/completions", json=body | {"ponder": {"strategy": "direct"}})
        reply.raise_for_status()
        return reply.json()["choices"][0]["text"], reply.json()["usage"]["completion_tokens"]

    async def answer(run: str, temperature: float, one: Example) -> Answer:
        messages = [{"role": "user", "content": one.prompt}]
        if run == "reasoning":
            return _read(run, one, *await complete("reasoning", render(messages), temperature))
        if run.endswith("false"):
            return _read(run, one, *await complete("thinking", thinks(messages, enable_thinking=False), temperature))
        prompt = thinks(messages)
        text, tokens = await complete("thinking", prompt, temperature)
        return await _checked(_read(run, one, text, tokens, is_thinking=True), one, prompt, complete)

    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600) as client:
        return await asyncio.gather(*(answer(run, heat, one) for one in asked for run, heat in RUNS.items()))


def _read(run: str, one: Example, text: str, tokens: int, *, is_thinking: bool = False) -> Answer:
    _, end, final = text.rpartition("</think>")
    is_closed = not is_thinking or bool(end)
    is_right = is_closed and FAMILIES[one.family].kind.is_right(final, one.answer)
    return Answer(run=run, task=one.family, bin=one.bin, text=text, tokens=tokens, is_right=is_right, is_closed=is_closed)


async def _checked(answer: Answer, one: Example, prompt: str, complete: Complete) -> Answer:
    """Add what the solution answers without its check."""
    solution, wait, check = answer.text.partition(WAIT)
    if not wait:
        return answer
    final, _ = await complete("thinking", prompt + solution.rstrip() + END, 0.0)
    verdict = "no" if ": no, " in check else "yes" if RIGHT in check else ""
    return answer.model_copy(update={"verdict": verdict, "was_right": FAMILIES[one.family].kind.is_right(final, one.answer)})


def report(answers: Sequence[Answer], name: str) -> None:
    """Print and save the table."""
    rows = [_row(run, [one for one in answers if one.run == run]) for run in RUNS]
    title = "An adapter that thinks, on questions that it has not seen; a wrong solution is one that answers wrongly without its check"
    table = Table(f"suite/{name}", title, "benchmarks.suite mending", rows)
    print(table.markdown())
    table.save()


def _row(run: str, answers: list[Answer]) -> dict[str, Any]:
    right = sum(one.is_right for one in answers)
    low, high = wilson(right, len(answers))
    checked = [one for one in answers if one.was_right is not None]
    wrong, good = ([one for one in checked if one.was_right is kind] for kind in (False, True))
    return {
        "run": run,
        "questions": len(answers),
        "right %": f"{100 * right / len(answers):.1f} ({100 * low:.1f} to {100 * high:.1f})",
        "tokens/question": round(statistics.fmean(one.tokens for one in answers)),
        "thinking ends": sum(one.is_closed for one in answers) if checked else "",
        "wrong solutions": len(wrong) if checked else "",
        "of them doubted": sum(one.verdict == "no" for one in wrong) if checked else "",
        "of them mended": sum(one.is_right for one in wrong) if checked else "",
        "right solutions doubted": sum(one.verdict == "no" for one in good) if checked else "",
        "of them spoiled": sum(not one.is_right for one in good) if checked else "",
    }


def save(answers: Iterable[Answer], path: Path) -> None:
    """Write the answers, one JSON object a line."""
    path.write_text("".join(one.model_dump_json() + "\n" for one in answers), encoding="utf-8")
