"""Worked solutions whose steps are checked, for a model that thinks: each check computes something else than the step did.

A line is undone by the inverse operation, a root is put into its equation, a product is made from other parts, letters are read
backward. A check ends with `yes`, or with `no` and what should have come out.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.suite.slips import NoSlip, Plant
from benchmarks.suite.steps import add, folded, multiply, places
from benchmarks.suite.worked_numbers import Entry

WAIT = "Wait, let me check."
RIGHT = "It is right."


@dataclass(frozen=True)
class Step:
    """Lines of a solution, and the line that checks them, without its verdict.

    Attributes:
        check: "" for lines that are not checked by themselves.
        wrong: why it is wrong, as the check tells; "" if it is right.

    """

    lines: tuple[str, ...]
    check: str
    wrong: str

    @property
    def checked(self) -> str:
        """The check with its verdict."""
        return f"{self.check}: {f'no, {self.wrong}' if self.wrong else 'yes'}"


Solve = Callable[[Entry, Plant], Iterator[Step]]
"""Yields the steps of a solution. What comes behind a slip goes on from it."""


@dataclass(frozen=True)
class Thought:
    """A solution, its check, and what is right from a slip on. `slip` is the passage of the first wrong step, "" without one."""

    text: str
    slip: str = ""


def thought(solve: Solve, entry: Entry, rng: random.Random, *, is_mended: bool) -> Thought:
    """Return a checked solution, with a slip if it `is_mended`; raises `NoSlip`."""
    counted = Plant()
    right = list(solve(entry, counted))
    if any(step.wrong for step in right):  # a story that was not understood
        raise NoSlip
    if not is_mended:
        return Thought("\n".join([*_lines(right), WAIT, *(step.checked for step in right if step.check), RIGHT]))
    tried = list(solve(entry, Plant(rng.randrange(counted.count), rng)))
    first = next((index for index, step in enumerate(tried) if step.wrong), None)
    if first is None:
        raise NoSlip
    mended = _lines(right[first:])
    mended[0] = f"So {mended[0]}"
    checks = [step.checked for step in tried[: first + 1] if step.check]
    return Thought("\n".join([*_lines(tried), WAIT, *checks, *mended]), "\n".join(tried[first].lines))


def _lines(steps: list[Step]) -> list[str]:
    return [line for step in steps for line in step.lines]


def result(line: str) -> int:
    """Return the number behind the last `=`."""
    return int(line.rpartition("=")[2])


def compared(check: str, found: object, expected: object) -> tuple[str, str]:
    """Return the check of a `Step`, and why the step is wrong."""
    return check, "" if found == expected else f"not {expected}"


def undone(check: str, expected: int) -> tuple[str, str]:
    """Return a check whose result should be what the step began with, and why the step is wrong."""
    return compared(check, result(check), expected)


def product(a: int, b: int) -> str:
    """Return the equation of a product that needs one line."""
    lines = multiply(a, b)
    if len(lines) > 1:
        raise NoSlip
    return lines[0]


def turned(a: int, b: int) -> str:
    """Return the product in the other order."""
    return f"{b}*{a}={product(b, a).partition('=')[2]}"


def multiplied(a: int, b: int) -> str:
    """Return the product in another way than `multiply`, in one line."""
    return turned(a, b) if len(multiply(a, b)) == 1 else by_places(a, b)


def by_places(a: int, b: int) -> str:
    """Return the product as the sum of those with each digit of the second: `47*80=3200+560=3760, 47*6=240+42=282, 3760+282=…`."""
    if a <= 0 or b <= 0:
        raise NoSlip
    total, parts = 0, []
    for place in places(b):
        parts.append("=".join([f"{a}*{place}", *folded([part * place for part in places(a)])]))
        if total:
            parts.append(add(total, a * place))
        total += a * place
    return ", ".join(parts)


def inverse(a: int, sign: str, b: int, made: int) -> tuple[str, str]:
    """Return the check of an operation with the result `made`, and why that is wrong."""
    if sign == "*":
        check = turned(a, b)
        return compared(check, result(check), made)
    if sign == "/":
        return undone(product(made, b), a)
    return undone(add(made, -b if sign == "+" else b), a)
