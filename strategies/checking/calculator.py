"""What a false line should have said: the result of its first false equation, computed.

Small models know what is to be computed better than they compute it, so a calculator that writes results while an answer is decoded brings
more than its few tokens (Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", whose calculator was called by marks in the
text; here whatever `strategies.verifiers.equations` reads as an equation calls it, and only where the model was wrong).

A vote that is taken away wrongly is lost, a result that is written wrongly misleads all that follows. So nothing is written where the
line may mean something else than it says: other units or bases, quotients without their remainder, dates, decimal commas.
"""

import re
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from strategies.answers.expressions import Expression
from strategies.verifiers.equations import disproof

MAX_DECIMALS = 4
"""A result with more is not written: who computes with it would have rounded it in a way of their own."""

MOST = 10**20
"""Longer results are not written."""

_SIGN = re.compile(r"(?<![-=<>!:])=(?![=>])")
_GAP = re.compile(r"\s*[$]?")
_UNIT = (
    r"(?:hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|feet|foot|ft|yards?|inch(?:es)?|miles?|pounds?|lbs?|oz"
    r"|ounces?|[kcm]?m|[km]?g|[km]?l|lit(?:er|re)s?|tons?|dozens?|pairs?|cents?|dollars?|percent)"
)
_OTHERWISE = re.compile(
    rf"\d,\d{{1,2}}(?!\d)|\bbase\b|\bnot\b|\bfalse\b|\d{{4}}-\d\d?-\d|=\s*[$]?[\d.,]+\s*{_UNIT}\b|^\s*[-*]\s+\d", re.IGNORECASE
)
"""Decimal commas, other bases, what is denied, dates, units that the operands may not have, a bullet that may be a minus."""

_GROUPED = re.compile(r"(?<!\d)\d{1,3},\d{3}(?!\d)")


def corrected(line: str) -> str | None:
    """A false line up to the first result that is wrong, with the right one in its place; None where that is not certain."""
    wrong = disproof(line)
    if wrong is None or _OTHERWISE.search(line):
        return None
    result = _result(*wrong, is_grouped=_GROUPED.search(line) is not None)
    signs = [match.start() for match in _SIGN.finditer(line)]
    for sign, end in pairwise([*signs, len(line)]):
        gap = _GAP.match(line, sign + 1)
        if result is not None and gap is not None and disproof(line[:end]) == wrong:
            text = line[: sign + 1] + gap[0] + result
            return text if disproof(text) is None else None
    return None


def _result(computed: Expression, said: Expression, *, is_grouped: bool) -> str | None:
    """As it would have been written, None where something else may have been meant."""
    is_given = len(computed.numbers) == 1  # "10 = 3 + 4" takes 10 apart: which of them is wrong nobody knows
    is_quotient = computed.value.denominator != 1 and not said.num_decimals  # "17/5 = 3", and a remainder
    if is_given or is_quotient:
        return None
    return _written(computed.value, said.num_decimals, is_grouped=is_grouped)


def _written(value: Fraction, least: int, *, is_grouped: bool) -> str | None:
    """As a whole or decimal number of at least so many decimals."""
    for decimals in range(least, MAX_DECIMALS + 1):
        scaled = value * 10**decimals
        if scaled.denominator == 1 and abs(scaled) < MOST:
            return f"{Decimal(scaled.numerator).scaleb(-decimals):{',' if is_grouped else ''}.{decimals}f}"
    return None
