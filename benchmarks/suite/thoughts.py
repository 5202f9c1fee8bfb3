"""Chats whose answers begin with thinking: a worked solution and its check, which finds and mends a slip in some of them."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.suite import checked_numbers as numbers
from benchmarks.suite import checked_words as words
from benchmarks.suite.checks import Solve, Thought, thought
from benchmarks.suite.questions import Example
from benchmarks.suite.slips import NoSlip

SOLVE: dict[str, Solve] = {
    one.__name__: one
    for one in (
        numbers.chain_sum, numbers.products, numbers.basic_arithmetic, numbers.simple_equations, numbers.gcd, numbers.leg_counting,
        words.time_intervals, words.calendar_arithmetic, words.number_sorting, words.letter_counting, words.spell_backward,
        words.gsm_symbolic,
    )
}  # fmt: skip
"""All training families but `count_bits`, which has no check that is shorter than its solution."""

_TRIES = 50
"""Slips that are tried: some make no solution that a check could find wrong."""


def lines(found: Iterable[Example], *, mended: float, plain: float) -> Iterator[dict[str, Any]]:
    """Yield a chat of each question whose solution can be checked, and of others where they are answered without thinking.

    Args:
        found: questions.
        mended: share of those with thinking whose solution has a slip.
        plain: share of all that are answered without thinking.

    """
    for one in found:
        rng = random.Random(one.prompt)
        if rng.random() < plain:
            yield _line(one, one.worked, enable_thinking=False)
        elif made := _thought(one, rng, is_mended=rng.random() < mended):
            yield _line(one, f"<think>\n{made.text}\n</think>\n\n{one.worked.splitlines()[-1]}", made.slip)


def _thought(one: Example, rng: random.Random, *, is_mended: bool) -> Thought | None:
    solve = SOLVE.get(one.family)
    for _ in range(_TRIES):
        if solve is None:
            break
        try:
            return thought(solve, one.entry, rng, is_mended=is_mended)
        except NoSlip:
            continue
    return None


def _line(one: Example, content: str, slip: str = "", **template: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": content}]
    more: dict[str, Any] = {"chat_template_kwargs": template} if template else {}
    if slip:
        more["unlearned"] = [slip]
    return {"messages": messages, **more, "answer": one.answer, "task": one.family, "bin": one.bin}
