"""Checks answers to number puzzles exactly, without code of the server's own verifier.

An answer is a last line `Answer: expression`, or lines with equations of two numbers. Each equation replaces two of the numbers by its
result, and may list the numbers that are left. A false equation or a false list makes the answer wrong.
"""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

MAX_CHARS = 200
_ANSWER = re.compile(r"^[\s*#>-]*(?:final\s+)?answer\b\W*?:(.*)$", re.IGNORECASE | re.MULTILINE)
_EQUATION = re.compile(
    r"^\s*(?P<a>-?\d+(?:/\d+)?) ?(?P<sign>[-+*/]) ?(?P<b>-?\d+(?:/\d+)?) ?= ?(?P<c>-?\d+(?:/\d+)?)(?![\d.*/+])"
)
_LEFT = re.compile(r"\(left: ([^()]*)\)")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")"})  # noqa: RUF001 - as models write


def solves(text: str, numbers: Sequence[int], target: int) -> bool:
    """Whether the answer uses each number once, with + - * / alone, and has the target as its result."""
    text = text.translate(_SIGNS)
    if answers := _ANSWER.findall(text):
        return _is_right(answers[-1].partition("=")[0].strip(" `*$.:\t"), numbers, target)
    return _reaches(text, numbers, target)


def _is_right(expression: str, numbers: Sequence[int], target: int) -> bool:
    try:
        used, value = _evaluate(ast.parse(expression[:MAX_CHARS], mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, MemoryError, RecursionError):
        return False
    return value == target and used == Counter(numbers)


def _evaluate(node: ast.expr) -> tuple[Counter[int], Fraction]:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return Counter([value]), Fraction(value)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as sign, right=right):
            (used, a), (more, b) = _evaluate(left), _evaluate(right)
            return used + more, _apply(sign, a, b)
    raise ValueError(ast.dump(node))


def _apply(sign: ast.operator, a: Fraction, b: Fraction) -> Fraction:
    match sign:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
    return a / b


def _reaches(text: str, numbers: Sequence[int], target: int) -> bool:
    """Whether the equations are true, use only numbers that are left, and end with the target alone."""
    pool = left(text, numbers)
    return pool is not None and pool == Counter([Fraction(target)])


def left(text: str, numbers: Sequence[int]) -> Counter[Fraction] | None:
    """Return the numbers that the equations leave, None where one is false or uses a number that is not left."""
    pool = Counter(Fraction(number) for number in numbers)
    for line in text.strip().splitlines():
        match = _EQUATION.match(line)
        if match is None:
            return None
        try:
            a, b, c = (Fraction(match[name]) for name in "abc")
            made = _evaluate_pair(match["sign"], a, b)
        except ZeroDivisionError:
            return None
        pool.subtract([a, b])
        if made != c or min(pool.values()) < 0:
            return None
        pool[c] += 1
        stated = _LEFT.search(line)
        if stated and sorted(stated[1].replace(",", " ").split()) != sorted(map(str, pool.elements())):
            return None
    return +pool


def _evaluate_pair(sign: str, a: Fraction, b: Fraction) -> Fraction:
    return {"+": a + b, "-": a - b, "*": a * b}[sign] if sign != "/" else a / b
