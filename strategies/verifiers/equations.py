"""Scores by whether the equations that an answer writes are true. No model is asked."""

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
"""The highest score of an answer with a false equation; answers without one score from 1 - REFUTED to 1."""

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
"""What follows the last side if that side is incomplete ("2x", "3:15", "1 and 1/2", "2 remainder 1", "1 hour 15"), or a question mark."""


class Equations(Verifier):
    """Puts answers without a false equation before those with one, and orders each of the two classes by likelihood.

    A true equation proves nothing, and an answer without equations counts as one without a false equation. Only what is certainly a whole
    equation is checked, so "half of 10 = 5", "x - 3 = 7" and "9 = 2 remainder 1" are not. A result may be rounded to the decimals that it
    shows. "5 + 3 = 8 + 2 = 10" is read as a calculation that runs on, as its author means it.
    """

    name = "equations"
    summary = "Whether the equations that the answer writes are true, ties by likelihood; no model is asked."
    num_logprobs = 0

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """Return one score in [0, 1] each: at most `REFUTED` with a false equation, at least 1 - `REFUTED` without."""
        texts = [task.judged(candidate) for candidate in candidates]
        return await asyncio.to_thread(
            lambda: [_score(candidate, text) for candidate, text in zip(candidates, texts, strict=True)]
        )


def _score(candidate: Candidate, text: str) -> float:
    if candidate.finish_reason != "stop" and not text[-1:].isspace():
        text = text.rpartition("\n")[0]  # it was cut, perhaps in the middle of a number
    return REFUTED * mean_probability(candidate) + (0.0 if is_refuted(text) else 1 - REFUTED)


def is_refuted(text: str) -> bool:
    """Return whether one of the equations in a text is false. Only the end of a long text is read."""
    return disproof(text) is not None


def disproof(text: str) -> tuple[Expression, Expression] | None:
    """Return the two neighbouring sides of the first false equation that differ; None if all equations are true."""
    found = (statement for line in lines(normalised(text[-NUM_CHARS_READ:])) for statement in statements(line))
    return next((sides for statement in found if (sides := _disproof(statement)) is not None), None)


def _disproof(statement: Statement) -> tuple[Expression, Expression] | None:
    """Return the first two neighbouring sides that differ. A calculation can run on only if another side follows."""
    pairs = pairwise(_whole(statement))
    return next((pair for pair in pairs if not _agree(*pair, runs_on=pair[1] is not statement.sides[-1])), None)


def _whole(statement: Statement) -> Sequence[Expression]:
    """Return the sides of a statement, without the first or the last one if the text around it shows that this side is incomplete."""
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
    """Return whether a fraction of something is said to be a whole number, as in "1/4 = 10 students"."""
    match left.numbers:
        case (above, below):
            return 0 < left.value < 1 and left.value * below == above and len(right.numbers) == 1 and right.value >= 1
    return False


def _is_rounded(exactly: Expression, shown: Expression) -> bool:
    """Return whether `shown` is a decimal number to which `exactly` may be rounded or cut off."""
    is_decimal = len(shown.numbers) == 1 and shown.num_decimals > 0
    return is_decimal and abs(exactly.value - shown.value) < Fraction(1, 10**shown.num_decimals)
