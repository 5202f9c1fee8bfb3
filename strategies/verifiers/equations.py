"""Whether the equations that an answer writes are true: a check of steps that no model is asked for."""

import asyncio
import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from strategies.answers.equations import Statement, lines, normalised, statements
from strategies.answers.expressions import Expression
from strategies.answers.reading import NUM_CHARS_READ
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier
from strategies.voting.count import mean_probability

REFUTED = 0.1
"""The most that an answer with a false equation gets, and what one without has at least taken from 1."""

_BEGINS = re.compile(r"(?:^|[:;,.(\[{>|\"'])\s*$|(?:^|\s)[A-Za-z]{2,}\s+$")
_RATIO = re.compile(r"\d(?::|\s+:\s*)$")
_NAMED = re.compile(r"[A-Za-z,(]\s*$")
_OPERATOR = re.compile(
    r"\b(?:of|mod|modulo|times|plus|minus|by|over|per|than|to|from|root|squared|cubed|half|twice|double|power|percent|sqrt|log)\s*$"
    r"|\d\s+and\s*$",
    re.IGNORECASE,
)
_GAP = r"(?:[\s,(){}\\]|(?:text|and|with|a)\b)*"
_UNIT = r"(?:hours?|hrs?|minutes?|mins?|seconds?|days?|weeks?|months?|years?|feet|foot|ft|yards?|pounds?|lbs?|dollars?)"
_GOES_ON = re.compile(
    r"[^\s.,;:)\]}\"'*|\\]|:\d|\\%|\.[(\\]|\s+(?:[-+*/%^]|[A-Za-z](?![A-Za-z])|and\s+\d+/)"
    r"|\s+(?:hundred|thousand|million|billion|dozen|percent)\b"
    rf"|{_GAP}(?:r\s?\d*|rem|remainder|p?mod|half|[ap]m|\d+\s+left|{_UNIT}{_GAP}\d+)\b",
    re.IGNORECASE,
)
"""Follows the last side when it is not all of it: "2x", "3:15", "1 and 1/2", "2 remainder 1", "1 hour 15"; and "?": it was asked."""


class Equations(Verifier):
    """Two classes, answers with a false equation and those without, each in the order of their likelihood.

    What is true proves nothing, and an answer without equations is not blamed. Only what is certainly a whole equation counts: in
    "half of 10 = 5", "x - 3 = 7" and "9 = 2 remainder 1" nothing is claimed. A result may be rounded to the decimals that it shows, and
    "5 + 3 = 8 + 2 = 10" is read as it is meant.
    """

    name = "equations"
    summary = "Whether the equations that the answer writes are true, ties by likelihood; no model is asked."
    num_logprobs = 0

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """In [0, 1]: at most `REFUTED` with a false equation, at least 1 - `REFUTED` without."""
        return await asyncio.to_thread(lambda: [_score(candidate) for candidate in candidates])


def _score(candidate: Candidate) -> float:
    text = candidate.text
    if candidate.finish_reason != "stop" and not text[-1:].isspace():
        text = text.rpartition("\n")[0]  # it was cut, perhaps in the middle of a number
    return REFUTED * mean_probability(candidate) + (0.0 if is_refuted(text) else 1 - REFUTED)


def is_refuted(text: str) -> bool:
    """Whether one of the equations in a text is false; of a long text the end is read."""
    return disproof(text) is not None


def disproof(text: str) -> tuple[Expression, Expression] | None:
    """Two sides next to each other of the first false equation that are not equal, None where all equations are true."""
    said = (statement for line in lines(normalised(text[-NUM_CHARS_READ:])) for statement in statements(line))
    return next((sides for statement in said if (sides := _disproof(statement)) is not None), None)


def _disproof(statement: Statement) -> tuple[Expression, Expression] | None:
    """Where two neighbours disagree; a calculation runs on only where another side follows."""
    pairs = pairwise(_whole(statement))
    return next((pair for pair in pairs if not _agree(*pair, runs_on=pair[1] is not statement.sides[-1])), None)


def _whole(statement: Statement) -> Sequence[Expression]:
    """Its sides, without the first or last where it goes on with something that was not read."""
    before, sides = statement.before, statement.sides
    is_of_words = not _BEGINS.search(before) or _OPERATOR.search(before) or _RATIO.search(before)
    if is_of_words or (_NAMED.search(before) and len(sides[0].numbers) == 1):  # the 2 of "Day 2 = 10 + 5"
        sides = sides[1:]
    return sides[:-1] if _GOES_ON.match(statement.after) else sides


def _agree(left: Expression, right: Expression, *, runs_on: bool) -> bool:
    is_computed = len(left.numbers) > 1 or len(right.numbers) > 1
    return (
        not is_computed
        or left.value == right.value
        or (runs_on and left.value == right.numbers[0])
        or _is_part(left, right)
        or _is_rounded(left, right)
        or _is_rounded(right, left)
    )


def _is_part(left: Expression, right: Expression) -> bool:
    """Whether a fraction of something is said to be a whole number: "1/4 = 10 students"."""
    match left.numbers:
        case (above, below):
            return 0 < left.value < 1 and left.value * below == above and len(right.numbers) == 1 and right.value >= 1
    return False


def _is_rounded(exactly: Expression, shown: Expression) -> bool:
    """Whether one is a decimal number that the other may be rounded, or cut off, to."""
    is_decimal = len(shown.numbers) == 1 and shown.num_decimals > 0
    return is_decimal and abs(exactly.value - shown.value) < Fraction(1, 10**shown.num_decimals)
