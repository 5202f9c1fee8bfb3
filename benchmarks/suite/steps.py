"""Arithmetic as lines of small steps, for a model that reads numbers digit by digit: no step needs more than a single digit.

`478+356=700+120+14=820+14=834` adds place by place, and then the places. The places of a difference keep their signs, so nothing is
borrowed: `834-356=500-20-2=480-2=478`. A negative difference is reversed first: `34-78=-(78-34)=-(40+4)=-44`.
"""

from itertools import zip_longest


def add(a: int, b: int) -> str:
    """Return a line that begins with `a+b` (or `a-b`) and ends with the result."""
    head, total = f"{a}{b:+d}", a + b
    if not a or not b:
        return f"{head}={total}"
    is_negative = total < 0 or (total == 0 and a < 0)
    first, second = (-a, -b) if is_negative else (a, b)
    if first < 0:
        first, second = second, first
    plain, sizes = f"{first}{second:+d}", sorted((abs(a), abs(b)))
    sides = [plain] if plain != head and sizes[1] >= 10 else []
    parts = _by_place(first, second) if sizes[0] >= 10 else []  # a single digit is added at once
    sides += folded(parts) if len(parts) > 1 else [str(abs(total))]
    return "=".join([head, *(_negated(side) if is_negative else side for side in sides)])


def _negated(side: str) -> str:
    if side == "0":
        return side
    return f"-{side}" if side.isdigit() else f"-({side})"


def _by_place(a: int, b: int) -> list[int]:
    """Return the sums of the digits of each place, highest first, without zeros."""
    sign = -1 if b < 0 else 1
    digits = zip_longest(reversed(str(a)), reversed(str(abs(b))), fillvalue="0")
    parts = [(int(x) + sign * int(y)) * 10**place for place, (x, y) in enumerate(digits)]
    return [part for part in reversed(parts) if part]


def folded(parts: list[int]) -> list[str]:
    """Return the sides of an equation that adds the parts from the left: `700+120+14`, `820+14`, `834`."""
    sides = [_sum(parts)]
    while len(parts) > 1:
        total = sum(parts)
        parts = [total] if places(total) == parts else [parts[0] + parts[1], *parts[2:]]
        sides.append(_sum(parts))
    return sides


def _sum(parts: list[int]) -> str:
    return "".join([str(parts[0]), *(f"{part:+d}" for part in parts[1:])])


def multiply(a: int, b: int) -> list[str]:
    """Return lines of which the last one ends with the product."""
    x, y = sorted((abs(a), abs(b)), key=_num_digits, reverse=True)
    if _num_digits(x) <= 1 or y in {1, 10, 100}:
        return [f"{a}*{b}={a * b}"]
    if a < 0 or b < 0:
        return [*multiply(abs(a), abs(b)), f"{a}*{b}={a * b}"]
    if _num_digits(y) == 1:
        return ["=".join([f"{x}*{y}", *folded([part * y for part in places(x)])])]
    return [*_columns(a, b), f"{a}*{b}={a * b}"]


def _columns(a: int, b: int) -> list[str]:
    """Return lines for the places of the product, lowest first: `7*6=42: 2`, `4*6+7*3+4=24+21+4=45+4=49: 9`, `4*3+4=12+4=16`."""
    x, y = ([int(digit) for digit in reversed(str(number))] for number in (a, b))
    lines, carry = [], 0
    for place in range(len(x) + len(y) - 1):
        pairs = [(x[k], y[place - k]) for k in reversed(range(len(x))) if 0 <= place - k < len(y)]
        parts = [*(one * other for one, other in pairs), *([carry] if carry else [])]
        head = "+".join([*(f"{one}*{other}" for one, other in pairs), *map(str, parts[len(pairs) :])])
        carry, digit = divmod(sum(parts), 10)
        lines.append("=".join([head, *folded(parts)]) + (f": {digit}" if place < len(x) + len(y) - 2 else ""))
    return lines


def _num_digits(number: int) -> int:
    """Return the number of digits that are not zero."""
    return sum(digit != "0" for digit in str(number))


def places(number: int) -> list[int]:
    """Return the values of the digits: 478 as 400, 70, 8."""
    text = str(number)
    return [int(digit) * 10 ** (len(text) - 1 - place) for place, digit in enumerate(text) if digit != "0"]


def divide(a: int, b: int) -> list[str]:
    """Return lines of which the last one ends with the quotient, digit by digit. It must be an integer of positive integers."""
    lines, rest = [], a
    parts = places(a // b)
    for part in parts[:-1]:
        product = f"{b}*{part}={b * part}"
        lines.append(f"{product}, {add(rest, -b * part)}")
        rest -= b * part
    lines += [f"{rest}/{b}={rest // b}"]
    return [*lines, f"{a}/{b}={_sum(parts)}={a // b}"] if len(parts) > 1 else lines
