"""Worked solutions of questions about numbers, made by rule: short lines, each a step that a small model can take."""

import re
from typing import Any

from benchmarks.suite import expressions
from benchmarks.suite.steps import add, divide, multiply

Entry = dict[str, Any]
"""A question of reasoning-gym with its answer and metadata."""


def ended(lines: list[str], answer: object) -> str:
    """Return the lines, and the answer behind its mark."""
    return "\n".join([*lines, f"#### {answer}"])


def chain_sum(entry: Entry) -> str:
    """Return a running total."""
    first, *others = (int(term) for term in re.findall(r"[-+]?\d+", entry["expression"].replace(" ", "")))
    lines, total = [], first
    for term in others:
        lines.append(add(total, term))
        total += term
    return ended(lines, total)


def products(entry: Entry) -> str:
    """Return a running product."""
    first, *others = (int(factor) for factor in entry["expression"].split(" * "))
    lines, total = [], first
    for factor in others:
        lines += multiply(total, factor)
        total *= factor
    return ended(lines, total)


def basic_arithmetic(entry: Entry) -> str:
    """Return lines with the expression and the operation that comes first."""
    lines = []
    for tree, a, sign, b in expressions.operations(expressions.parse(entry["expression"])):
        whole, (*before, last) = expressions.shown(tree), operation(int(a), sign, int(b))
        lines += [*before, last if last.startswith(f"{whole}=") else f"{whole}: {last}"]
    return ended(lines, entry["answer"])


def operation(a: int, sign: str, b: int) -> list[str]:
    """Return lines of which the last one ends with the result."""
    if sign == "*":
        return multiply(a, b)
    if sign == "/":
        return divide(a, b) if a > 0 and b > 0 else [f"{a}/{b}={a // b}"]
    return [add(a, b if sign == "+" else -b)]


def simple_equations(entry: Entry) -> str:
    """Return a solution that moves the constant to the other side, and then divides."""
    factor, constant, right = linear(entry["equation"], entry["variable"])
    name, lines = entry["variable"], []
    if constant:
        lines.append(f"{_term(factor, name)}={add(right, -constant)}")
        right -= constant
    if factor < 0:
        factor, right = -factor, -right
        lines.append(f"{_term(factor, name)}={right}")
    if factor > 1:
        *before, last = divide(right, factor)
        lines += [*before, f"{name}={last}"]
    return ended(lines, right // factor)


def _term(factor: int, name: str) -> str:
    return {1: name, -1: f"-{name}"}.get(factor, f"{factor}*{name}")


def linear(equation: str, name: str) -> tuple[int, int, int]:
    """Return the factor of the unknown, the constant, and the right side: `5 - 3*x = -4` is (-3, 5, -4)."""
    left, right = equation.replace(" ", "").split("=")
    terms = re.findall(rf"([-+]?)(\d*)\*?({name}?)", left)
    factor = sum(int(f"{sign}{digits or 1}") for sign, digits, unknown in terms if unknown)
    constant = sum(int(f"{sign}{digits}") for sign, digits, unknown in terms if digits and not unknown)
    return factor, constant, int(right)


def gcd(entry: Entry) -> str:
    """Return a solution by Euclid's algorithm: subtract the smaller number as often as possible."""
    small, large = sorted(entry["numbers"])
    lines = []
    while small:
        times, rest = divmod(large, small)
        equation = add(large, -times * small)
        lines.append(equation if times == 1 else f"{large}-{times}*{small}={equation}")
        large, small = small, rest
    return ended(lines, large)


def count_bits(entry: Entry) -> str:
    """Return a solution that halves the number and counts how often it is odd."""
    number, count, lines = entry["number"], 0, []
    while number:
        count += number % 2
        lines.append(f"{number}: {count}")
        number //= 2
    return ended(lines, count)


def leg_counting(entry: Entry) -> str:
    """Return the legs of each kind of animal, and a running total."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS as LEGS  # noqa: PLC0415 - only where it is installed

    lines, total = [], 0
    for animal, number in entry["animals"].items():
        legs = number * LEGS[animal]
        parts = [*multiply(number, LEGS[animal]), *([add(total, legs)] if total and legs else [])]
        lines.append(f"{animal}: {', '.join(parts)}")
        total += legs
    return ended(lines, total)
