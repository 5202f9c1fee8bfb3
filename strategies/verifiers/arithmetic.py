"""Whether an answer makes a target from given numbers, as in the game of 24: by one expression, or by equations one after another.

Equations are read as in `strategies.answers.equations`, and besides:
- A fraction is a division. A result like 8/3 can be used within one expression, but not by a later equation.
- An equation with a side that cannot be read ("24 // 7 = 3") refutes nothing. If it is the last one, nothing is proven.
- "left: 12 5 3" claims which numbers are left after the equations before it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from strategies.answers.equations import Statement, lines, normalised, statements, trim
from strategies.answers.expressions import NUMBER, Expression, exact, parse
from strategies.answers.reading import NUM_CHARS_READ, last_boxed
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import StrategyContext, Verifier

STARTED = 0.1
PROGRESS = 0.8
REACHED = 0.95
"""An incomplete answer scores STARTED plus PROGRESS times the share of its steps that are done; once it has reached the target, REACHED."""

_LEFT = re.compile(r"\(?\s?\b(?:left|remaining)\s{0,3}:([^()\n]{0,200}|\s{0,3}\([^()\n]{0,200})\)?", re.IGNORECASE)
_LEFT_NUMBER = re.compile(rf"-?{NUMBER}(?:/{NUMBER})?", re.ASCII)
_MARKER = re.compile(r"\b(?:answer|solution|result)\b\s{0,3}(?:is|:|=)", re.IGNORECASE)

Number = Annotated[int | float, Field(ge=-(10**15), le=10**15)]


class ArithmeticRule(Params):
    """The target, and the numbers that it is to be made from."""

    numbers: Annotated[list[Number], Field(min_length=1, max_length=12)]
    target: Number
    use_all: Annotated[bool, Field(description="each number exactly once; else at most once")] = True


class ArithmeticParams(Params):
    """`{"arithmetic": {"numbers": numbers, "target": number}}`."""

    arithmetic: ArithmeticRule


@dataclass(frozen=True, slots=True)
class _Left:
    """A claim that these numbers are left."""

    numbers: tuple[Fraction, ...]


class ArithmeticVerifier(Verifier):
    """1.0 if a complete answer reaches the target. An incomplete answer scores by how many of its steps are done, if all are right."""

    name = "arithmetic"
    summary = "Exact: whether the answer makes a target from given numbers, by an expression or step by step."
    Params = ArithmeticParams
    is_exact = True

    def __init__(self, params: ArithmeticParams, context: StrategyContext) -> None:
        super().__init__(params, context)
        rule = params.arithmetic
        self._numbers = Counter(exact(number) for number in rule.numbers)
        self._target = exact(rule.target)
        self._use_all = rule.use_all

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """Return one score in [0, 1] each: 1.0 or 0.0 for a complete answer, below 1 for others, 0.0 after a step that is not allowed."""
        texts = [(task.judged(one)[-NUM_CHARS_READ:], "step" if one.is_thinking else one.finish_reason) for one in candidates]
        return await asyncio.to_thread(lambda: [self._score(text, finish_reason) for text, finish_reason in texts])

    def state(self, task: Task, candidate: Candidate) -> str:
        """Return the numbers that are left, once there are fewer: 4 + 8 and 8 + 4 lead to the same state."""
        pool = self._left(normalised(task.judged(candidate)[-NUM_CHARS_READ:]))
        if pool is None or pool == self._numbers:
            return candidate.text.strip()
        return f"left: {' '.join(sorted(map(str, pool.elements())))}"

    def _left(self, text: str) -> Counter[Fraction] | None:
        """Return the numbers that are left after the equations of a text; None if one of them is wrong."""
        pool: Counter[Fraction] | None = self._numbers
        for claim in _claims(text):
            pool = None if pool is None else _apply(claim, pool)
        return pool

    def _score(self, text: str, finish_reason: str) -> float:
        text = normalised(text)
        if self._is_solution(text):
            progress: float | None = 1.0
        else:
            progress = None if self._has_other_answer(text) else self._follow(text)
        if finish_reason == "stop":
            return float(progress == 1)
        if progress is None and finish_reason != "step":  # it was cut, perhaps in the middle of a number
            progress = self._follow(text.rpartition("\n")[0])
        if progress is None:
            return 0.0
        return REACHED if progress == 1 else STARTED + PROGRESS * progress

    def _is_solution(self, text: str) -> bool:
        """Return whether the final statement alone is a solution: the boxed one, else the one after "answer:", else the last one."""
        boxed, after = _finals(text)
        finals = (self._statements(boxed)[-1:], self._statements(after)[:1], self._statements(text)[-1:])
        final = next((found[0] for found in finals if found), None)
        if final is None or not final.is_true or final.sides[0].value != self._target:
            return False
        return any(self._uses_given(side) for side in final.sides)

    def _has_other_answer(self, text: str) -> bool:
        """Return whether the final answer (boxed, else after "answer:") is another number: then right steps do not help."""
        boxed, after = _finals(text)
        answer = parse(trim((boxed or after.partition("\n")[0]).strip(" \t.*")))
        return answer is not None and answer.value != self._target

    def _statements(self, text: str) -> list[Statement]:
        """Return the statements of a text. A number alone is one only if one number was given."""
        statements = [claim for claim in _claims(text) if isinstance(claim, Statement)]
        return [one for one in statements if len(one.sides) != 1 or one.worked or self._numbers.total() == 1]

    def _uses_given(self, side: Expression) -> bool:
        rest = _without(self._numbers, side.numbers)
        return rest is not None and not (self._use_all and rest)

    def _follow(self, text: str) -> float | None:
        """Return the share of the steps that are done, 1 if they end at the target; None if one is wrong or nothing can follow."""
        pool, is_reached = self._numbers, False
        for claim in _claims(text):
            after = _apply(claim, pool)
            if after is None:
                return None
            pool = after
            if isinstance(claim, Statement) and not claim.sides:
                is_reached = False
            elif isinstance(claim, Statement) and claim.is_equation and claim.worked:
                is_reached = claim.worked.value == self._target
        steps = self._numbers.total() - 1
        num_left = pool.total()
        if is_reached and not (self._use_all and num_left > 1):
            return 1.0
        if num_left == 1 and steps:
            return None  # one number is left, and it is not the target
        return (steps + 1 - num_left) / max(steps, 1)


def _apply(claim: Statement | _Left, pool: Counter[Fraction]) -> Counter[Fraction] | None:
    """Return the numbers that are left after a claim; None if the claim is wrong."""
    if isinstance(claim, _Left):
        return pool if pool == Counter(claim.numbers) else None
    if not claim.is_equation:
        return pool
    if not claim.is_true:
        return None
    if claim.worked is None:
        return pool
    rest = _without(pool, claim.worked.numbers)
    return None if rest is None else rest + Counter([claim.worked.value])


def _without(pool: Counter[Fraction], numbers: Sequence[Fraction]) -> Counter[Fraction] | None:
    """Return the pool without the numbers; None if one is missing. A negative number may be a positive one with a minus before it."""
    rest = Counter(pool)
    for number in numbers:
        taken = number if rest[number] > 0 else abs(number)
        if rest[taken] <= 0:
            return None
        rest[taken] -= 1
    return +rest


def _finals(text: str) -> tuple[str, str]:
    """Return what is boxed, and what follows the last "answer:"; both may be empty."""
    markers = list(_MARKER.finditer(text))
    return last_boxed(text) or "", text[markers[-1].end() :] if markers else ""


def _claims(text: str) -> Iterator[Statement | _Left]:
    """Yield the claims of a normalised text, in order."""
    for line in lines(text):
        position = 0
        for match in _LEFT.finditer(line):
            yield from statements(line[position : match.start()])
            position = match.end()
            if numbers := _LEFT_NUMBER.findall(match[1]):
                read = [parse(number) for number in numbers]
                yield _Left(tuple(one.value for one in read if one is not None))
        yield from statements(line[position:])
