"""Equations as models write them among words, found in a text and read.

How a text is read:
- A line without its bullet ("1. ", "- ", "Step 2:") and Markdown's bold is searched for runs of figures, signs and parentheses.
- Sides of "=" that can be read are a claim that they are equal. A line that begins with "=" continues the line before it.
- An equation with a side that cannot be read ("24 // 7 = 3") claims nothing.
- Anything else that cannot be read, or that has neither an operator nor "=", is ignored.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from strategies.answers.expressions import MAX_LENGTH, Expression, parse
from strategies.answers.expressions import normalise as signs_normalised

_ARROW = re.compile(
    r"[-=]>|\N{RIGHTWARDS ARROW}|\N{RIGHTWARDS DOUBLE ARROW}|\\(?:implies|to|rightarrow|Rightarrow)(?![a-zA-Z])"
)
_BOLD = re.compile(r"(?<![\d)])(?<![\d)] )\*\*|\*\*(?! ?[\d(])")  # between operands it would be a power
_BULLET = re.compile(
    r"\s*(?:[-*\N{BULLET}>#]{1,6}\s+)?(?:\d{1,2}[.)]\s+|\(\d{1,2}\)\s+|step\s{0,3}\d{1,3}\s{0,3}[-:.)]?\s+)?", re.IGNORECASE
)
_RUN = re.compile(r"[-+*/().,=\[\]\d \t]+", re.ASCII)
_END = re.compile(
    r"\.(?!\d)|,(?!\d{3}(?!\d))|(?<!\d),"
)  # of a statement within a run: not a decimal point, not a thousands separator
_TAIL = " \t.,+-*/("
"""Characters that cannot end a side: what followed them could not be read."""
_AROUND = 48
"""Number of characters that are kept of the text before and after a statement."""


@dataclass(frozen=True, slots=True)
class Statement:
    """An equation, or one expression that stands alone.

    Attributes:
        sides: of the equation, or the expression; empty if a side of the equation cannot be read.
        before: the text before it on its line. It tells whether the first side is complete: in "x - 3 = 2y" it is not.
        after: the text after it, which tells the same of the last side.

    """

    sides: tuple[Expression, ...]
    before: str = ""
    after: str = ""

    @property
    def is_equation(self) -> bool:
        """Whether it has at least two sides."""
        return len(self.sides) > 1

    @property
    def is_true(self) -> bool:
        """Whether all sides have the same value."""
        return len({side.value for side in self.sides}) == 1

    @property
    def worked(self) -> Expression | None:
        """The first side that has an operator; None if none has."""
        return next((side for side in self.sides if len(side.numbers) > 1), None)


def normalised(text: str) -> str:
    """Return a text with ASCII's signs for Unicode's and LaTeX's, arrows as ends of statements, and without Markdown's bold."""
    return signs_normalised(_BOLD.sub("", _ARROW.sub(";", text)))


def lines(text: str) -> Iterator[str]:
    """Yield the lines of a text without bullets; a line that begins with "=" is joined to the line before it."""
    pending: list[str] = []
    for line in text.splitlines():
        if pending and not line.strip():
            continue
        if pending and not line.lstrip().startswith("="):
            yield " ".join(pending)
            pending = []
        bullet = None if pending else _BULLET.match(line)
        pending.append((line[bullet.end() :] if bullet else line).rstrip("\\ \t"))
    yield " ".join(pending)


def statements(line: str) -> Iterator[Statement]:
    """Yield the statements of a line, in order."""
    for run in _RUN.finditer(line):
        start = run.start()
        for end, following in [*(match.span() for match in _END.finditer(line, start, run.end())), (run.end(), run.end())]:
            piece = line[start:end].rstrip(_TAIL)
            sides = [trim(side) for side in piece.split("=")]
            read = [parse(side) for side in sides if side]
            known = tuple(side for side in read if side is not None)
            if len(known) == len(read) > 0:
                first, stop = start + len(piece) - len(piece.lstrip()), start + len(piece)
                first += 2 * line.startswith("- ", first)  # the dash may belong to the words before: "cost - 3 * 4 = 12"
                before = line[max(0, first - _AROUND) : first] if sides[0] else ""
                yield Statement(known, before, line[stop : stop + _AROUND])
            elif len(read) > 1:
                yield Statement(())
            start = following


def trim(side: str) -> str:
    """Return a side without spaces around it, and without a parenthesis that belongs to the sentence around it."""
    side = side.strip()
    if len(side) > MAX_LENGTH:
        return side
    while side.startswith("(") and side.count("(") > side.count(")"):
        side = side[1:].lstrip()
    while side.endswith(")") and side.count(")") > side.count("("):
        side = side[:-1].rstrip()
    return side
