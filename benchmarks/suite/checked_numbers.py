"""Checked solutions of questions about numbers. Each function yields the steps of one family, as `checks.Solve` says."""

import re
from collections.abc import Iterator
from fractions import Fraction

from benchmarks.suite import expressions
from benchmarks.suite import worked_numbers as numbers
from benchmarks.suite.checks import Step, compared, inverse, multiplied, product, result, turned, undone
from benchmarks.suite.slips import NoSlip, Plant
from benchmarks.suite.steps import add, multiply
from benchmarks.suite.worked_numbers import Entry


def chain_sum(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Undo each sum."""
    total, *terms = (int(term) for term in re.findall(r"[-+]?\d+", entry["expression"].replace(" ", "")))
    for term in terms:
        line = plant.line(add(total, plant.number(term)))
        yield Step((line,), *undone(add(result(line), -term), total))
        total = result(line)


def products(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Multiply in the other order, and two numbers of several digits place by place."""
    total, *factors = (int(factor) for factor in entry["expression"].split(" * "))
    for factor in factors:
        lines = multiply(total, factor)
        lines = _slipped_columns(lines, plant) if len(lines) > 1 else [plant.line(lines[0])]
        check = multiplied(total, factor)
        yield Step(tuple(lines), *compared(check, result(check), result(lines[-1])))
        total = result(lines[-1])


def _slipped_columns(lines: list[str], plant: Plant) -> list[str]:
    """Change the digit of one column and of the product."""
    *columns, last = lines
    for place, line in enumerate(columns):
        if plant():
            equation, _, digit = line.partition(": ")
            step = plant.rng.choice((-1, 1))
            if digit and not 0 <= int(digit) + step <= 9:
                step = -step
            head, _, made = equation.rpartition("=")
            columns[place] = f"{head}={int(made) + step}" + (f": {int(digit) + step}" if digit else "")
            head, _, made = last.rpartition("=")
            last = f"{head}={int(made) + step * 10**place}"
    return [*columns, last]


def basic_arithmetic(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Undo each operation; multiply in the other order."""
    tree = expressions.parse(entry["expression"])
    while isinstance(tree, expressions.Pair):
        left, sign, right = expressions.first(tree)
        a, b = int(left), int(right)
        if sign == "/" and (b == 0 or a % b):
            raise NoSlip
        *before, last = numbers.operation(a, sign, b)
        last, whole = plant.line(last), expressions.shown(tree)
        shown = last if last.startswith(f"{whole}=") else f"{whole}: {last}"
        yield Step((*before, shown), *inverse(a, sign, b, result(last)))
        tree = expressions.reduced(tree, Fraction(result(last)))


def simple_equations(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Put the solution into the equation."""
    factor, constant, right = numbers.linear(entry["equation"], entry["variable"])
    *lines, _ = numbers.simple_equations(entry).splitlines()
    name, root, rest = entry["variable"], (right - constant) // factor, right - constant
    if constant:
        head, _, equation = lines[0].partition("=")
        lines[0] = f"{head}={plant.line(equation)}"
        rest = result(lines[0])
    slipped = numbers.simple_equations({**entry, "equation": f"{factor}*{name} + 0 = {rest}"}).splitlines()[:-1]
    if rest % factor:
        raise NoSlip
    lines, root = [*lines[: bool(constant)], *slipped], rest // factor
    if abs(factor) > 1 and plant():
        root = plant.off(root)
        lines[-1] = f"{lines[-1].rpartition('=')[0]}={root}"
    check = ", ".join([multiplied(root, factor), *([add(factor * root, constant)] if constant else [])])
    yield Step(tuple(lines), *undone(check, right))


def gcd(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Add to each rest what was subtracted."""
    small, large = sorted(entry["numbers"])
    while small:
        times = large // small
        if not times:
            raise NoSlip
        line = plant.line(add(large, -times * small))
        rest = result(line)
        if rest < 0:
            raise NoSlip
        check = add(rest, times * small)
        if times > 1:
            line = f"{large}-{times}*{small}={line}"
            check = f"{multiply(small, times)[-1]}, {check}"
        yield Step((line,), *undone(check, large))
        large, small = small, rest


def leg_counting(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Multiply in the other order, and undo each sum."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS as LEGS  # noqa: PLC0415 - only where it is installed

    total = 0
    for animal, number in entry["animals"].items():
        each = LEGS[animal]
        parts, check = [plant.line(product(number, each))], [turned(number, each)]
        legs = result(parts[0])
        wrong = compared("", number * each, legs)[1]
        after = total + legs
        if total and legs:
            parts.append(plant.line(add(total, legs)))
            after = result(parts[1])
            if not wrong:
                check.append(add(after, -legs))
                wrong = undone(check[1], total)[1]
        yield Step((f"{animal}: {', '.join(parts)}",), f"{animal}: {', '.join(check)}", wrong)
        total = after
