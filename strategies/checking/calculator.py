"""Corrects a false line: computes the right result of its first false equation.

Small models are better at deciding what to compute than at computing it. A calculator that writes results while an answer is decoded
therefore gains more than it costs (Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", arXiv 2110.14168). Their
calculator is called by marks in the text. Here any equation that `strategies.verifiers.equations` can read calls it, and only if the model
was wrong.

A vote that is excluded by mistake is lost, but a result that is inserted by mistake misleads everything after it. So nothing is inserted
where the line may mean something else than it says: other units or bases, quotients without their remainder, dates, decimal commas.
"""

import re
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from strategies.answers.expressions import Expression
from strategies.verifiers.equations import disproof

MAX_DECIMALS = 4
"""The most decimals of an inserted result: an author would have rounded a longer one, nobody knows to what."""

MOST = 10**20
"""Results must be smaller than this."""

_SIGN = re.compile(r"(?<![-=<>!:])=(?![=>])")
_GAP = re.compile(r"\s*[$]?")
_UNIT = (
    r"(?:hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|feet|foot|ft|yards?|inch(?:es)?|miles?|pounds?|lbs?|oz"
    r"|ounces?|[kcm]?m|[km]?g|[km]?l|lit(?:er|re)s?|tons?|dozens?|pairs?|cents?|dollars?|percent)"
)
_AMBIGUOUS = re.compile(
    rf"\d,\d{{1,2}}(?!\d)|\bbase\b|\bnot\b|\bfalse\b|\d{{4}}-\d\d?-\d|=\s*[$]?[\d.,]+\s*{_UNIT}\b|^\s*[-*]\s+\d", re.IGNORECASE
)
"""Decimal commas, other bases, denials, dates, units that the operands may not have, and bullets that may be minus signs."""

_GROUPED = re.compile(r"(?<!\d)\d{1,3},\d{3}(?!\d)")


def corrected(line: str) -> str | None:
    """Return a false line up to its first wrong result, with the right result in place of it; None if that is not certain."""
    wrong = disproof(line)
    if wrong is None or _AMBIGUOUS.search(line):
        return None
    result = _result(*wrong, is_grouped=_GROUPED.search(line) is not None)
    signs = [match.start() for match in _SIGN.finditer(line)]
    for sign, end in pairwise([*signs, len(line)]):
        gap = _GAP.match(line, sign + 1)
        if result is not None and gap is not None and disproof(line[:end]) == wrong:
            text = line[: sign + 1] + gap[0] + result
            return text if disproof(text) is None else None
    return None


def _result(computed: Expression, written: Expression, *, is_grouped: bool) -> str | None:
    """Return the right result as the author would have written it; None if something else may have been meant."""
    is_given = len(computed.numbers) == 1  # in "10 = 3 + 4" any of the numbers may be the wrong one
    is_quotient = computed.value.denominator != 1 and not written.num_decimals  # "17/5 = 3" leaves a remainder
    if is_given or is_quotient:
        return None
    return _format(computed.value, written.num_decimals, is_grouped=is_grouped)


def _format(value: Fraction, least: int, *, is_grouped: bool) -> str | None:
    """Return a number with at least `least` decimals; None if it needs more than `MAX_DECIMALS`."""
    for decimals in range(least, MAX_DECIMALS + 1):
        scaled = value * 10**decimals
        if scaled.denominator == 1 and abs(scaled) < MOST:
            return f"{Decimal(scaled.numerator).scaleb(-decimals):{',' if is_grouped else ''}.{decimals}f}"
    return None
