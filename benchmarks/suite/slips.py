"""Plants one slip in a worked solution: a wrong digit or a wrong sign, of the kind that a small model makes."""

import random
import re

from benchmarks.suite.steps import folded

_SUM = re.compile(r"-?\d+(?:[-+]\d+)+")


class NoSlip(Exception):
    """A slip at this place makes no solution that a check could find wrong."""


class Plant:
    """Passes through what a solution is made of, and changes it at one place.

    Args:
        at: number of the place; None for a right solution.
        rng: chooses among slips.

    Attributes:
        count: places that were passed so far.

    """

    def __init__(self, at: int | None = None, rng: random.Random | None = None) -> None:
        self._at = at
        self.rng = rng or random.Random(0)
        self.count = 0

    def __call__(self) -> bool:
        """Whether the slip belongs here."""
        self.count += 1
        return self.count - 1 == self._at

    def line(self, line: str) -> str:
        """Return an equation, maybe with a wrong result."""
        return self._wrong(line) if self() else line

    def number(self, number: int) -> int:
        """Return a number of the question, maybe with the wrong sign."""
        return -number if self() else number

    def _wrong(self, line: str) -> str:
        *before, last = line.split("=")
        sums = [index for index, side in enumerate(before) if index and _SUM.fullmatch(side)]
        if sums and self.rng.random() < 0.6:
            index = self.rng.choice(sums)
            parts = [int(part) for part in re.findall(r"[-+]?\d+", before[index])]
            chosen = self.rng.randrange(len(parts))
            parts[chosen] = self.off(parts[chosen], is_lowest=True)
            return "=".join([*before[:index], *folded([part for part in parts if part] or [0])])
        return "=".join([*before, str(self.off(int(last)))])

    def off(self, number: int, *, is_lowest: bool = False) -> int:
        """Return a number that differs by one in one digit, in the lowest that is not zero if `is_lowest`."""
        digits = str(abs(number))
        place = len(digits) - len(digits.rstrip("0")) if is_lowest and number else self.rng.randrange(len(digits))
        wrong = number + self.rng.choice((-1, 1)) * 10**place
        return wrong if wrong * number >= 0 else number + 10**place * (1 if number > 0 else -1)
