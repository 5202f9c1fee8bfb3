"""Arithmetic as models write it, read into exact numbers.

This is a small recursive descent parser, because what a model writes must never reach an evaluator. Length, nesting and digits are bounded,
so that reading takes linear time and values stay small.

    sum     = product { ("+" | "-") product }
    product = signed { ("*" | "/") signed }
    signed  = "-" signed | number | "(" sum ")"
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction

MAX_LENGTH = 200
MAX_DEPTH = 32
MAX_DIGITS = 30

NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
"""Digits, possibly with thousands separators and decimals; the sign is an operator."""

_TOKEN = re.compile(rf"\s*({NUMBER}|[-+*/()])", re.ASCII)
_SIGNS = str.maketrans(
    dict.fromkeys("\N{MULTIPLICATION SIGN}\N{DOT OPERATOR}\N{MIDDLE DOT}\N{ASTERISK OPERATOR}", "*")
    | dict.fromkeys("\N{DIVISION SIGN}\N{DIVISION SLASH}", "/")
    | dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}", "-")
    | {"[": "(", "]": ")"}
)
_WORDS = re.compile(r"\\(times|cdot|ast|div|left|right|quad|qquad|displaystyle)(?![a-zA-Z])")
_WORD_SIGNS = {"times": "*", "cdot": "*", "ast": "*", "div": "/"}
_LATEX_NOISE = re.compile(r"\\[()\[\],;:!]|[$&]")
_DEBT = re.compile("[-\N{MINUS SIGN}][$]")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s{0,3}\{([^{}]{0,99})\}\s{0,3}\{([^{}]{0,99})\}")
_TIMES_X = re.compile(r"(?<=[\d)])(?:\s|(?<!\b0))[xX]\s?(?=[\d(])")  # 0x10 is no product


@dataclass(frozen=True, slots=True)
class Expression:
    """A sum, a product or a number that was read.

    Attributes:
        value: its exact value.
        numbers: those that are written in it, from left to right. A minus directly before a number belongs to it.
        num_decimals: the most decimals that one of them shows.

    """

    value: Fraction
    numbers: tuple[Fraction, ...]
    num_decimals: int = field(default=0, compare=False)


class _Unreadable(Exception):
    """The text is not an expression."""


def normalise(text: str) -> str:
    """Return the text with ASCII's signs for Unicode's and LaTeX's."""
    text = _LATEX_NOISE.sub(" ", _DEBT.sub("-", text))
    for _ in range(3):  # fractions within fractions, the inner ones first
        text = _LATEX_FRACTION.sub(r"((\1)/(\2))", text)
    text = _WORDS.sub(lambda match: _WORD_SIGNS.get(match[1], " "), text).translate(_SIGNS)
    return _TIMES_X.sub(" * ", text)


def parse(text: str) -> Expression | None:
    """Return the expression; None if the text is not one, is too long, or divides by zero."""
    if len(text) > MAX_LENGTH:
        return None
    try:
        return _Parser(_tokens(normalise(text))).whole()
    except (_Unreadable, ZeroDivisionError):
        return None


def exact(number: float) -> Fraction:
    """Return the number as it was written: 0.1 is a tenth, not the nearest binary fraction."""
    return Fraction(str(number)) if isinstance(number, float) else Fraction(number)


def _tokens(text: str) -> list[str]:
    tokens, position, text = [], 0, text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(match[1]) > MAX_DIGITS:
            raise _Unreadable
        tokens.append(match[1])
        position = match.end()
    return tokens


class _Parser:
    """Parses a list of tokens in one pass."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._position = 0
        self._numbers: list[Fraction] = []
        self._num_decimals = 0

    def whole(self) -> Expression:
        value = self._sum(0)
        if self._next:
            raise _Unreadable
        return Expression(value, tuple(self._numbers), self._num_decimals)

    @property
    def _next(self) -> str:
        return self._tokens[self._position]

    def _take(self) -> str:
        self._position += 1
        return self._tokens[self._position - 1]

    def _sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while self._next in {"+", "-"}:
            value = value + self._product(depth) if self._take() == "+" else value - self._product(depth)
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        while self._next in {"*", "/"}:
            value = value * self._signed(depth) if self._take() == "*" else value / self._signed(depth)
        return value

    def _signed(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH or not self._next or self._next in "+*/)":
            raise _Unreadable
        first = self._take()
        if first == "-" and self._next[:1] in {"-", "("}:
            return -self._signed(depth + 1)
        if first == "(":
            value = self._sum(depth + 1)
            if self._take() != ")":
                raise _Unreadable
            return value
        return self._number("-" + self._take() if first == "-" else first)

    def _number(self, digits: str) -> Fraction:
        if not digits[-1:].isdigit():
            raise _Unreadable
        value = Fraction(digits.replace(",", ""))
        self._numbers.append(value)
        self._num_decimals = max(self._num_decimals, len(digits.partition(".")[2]))
        return value
