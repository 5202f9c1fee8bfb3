"""Worked solutions of questions about words, lists, times and stories, made by rule."""

import re
from datetime import datetime
from fractions import Fraction
from itertools import pairwise

from benchmarks.suite.checking import WEEKDAYS
from benchmarks.suite.expressions import parse, value
from benchmarks.suite.steps import add
from benchmarks.suite.worked_numbers import Entry, ended

_PRODUCT = re.compile(r"(?<=[\d\s])[x×](?=[\d\s])")  # noqa: RUF001 - as the stories write it
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_NOT_ARITHMETIC = re.compile(r"[^-+*/.\d ]")
_LEFT = re.compile(r"\d[\d.]*(?: *[-+*/] *\d[\d.]*)+ *$")
_RIGHT = re.compile(r"^ *(\d[\d.]*(?: *[-+*/] *\d[\d.]*)*)")
_WHOLE = re.compile(r"(\d)\.0+(?!\d)")
_LONG_DECIMAL = re.compile(r"\.\d{3}")


def number_sorting(entry: Entry) -> str:
    """Return a solution that groups numbers by their first digits, and then sorts each group."""
    numbers = [int(float(number)) for number in entry["original_numbers"]]
    width = 100 if max(map(abs, numbers)) >= 100 else 10
    groups: dict[tuple[bool, int], list[int]] = {}
    for number in numbers:
        groups.setdefault((number >= 0, number // width if number >= 0 else -(-number // width)), []).append(number)
    is_reversed = entry["direction"] == "descending"
    lines = [
        f"{'' if is_positive else '-'}{abs(group)}: {' '.join(map(str, groups[is_positive, group]))}"
        for is_positive, group in sorted(groups, reverse=is_reversed)
    ]
    return ended(lines, ", ".join(map(str, sorted(numbers, reverse=is_reversed))))


def letter_counting(entry: Entry) -> str:
    """Return a solution that spells each word and counts the letter, in it and so far."""
    lines, total = [], 0
    for word in entry["span"]:
        count = word.lower().count(entry["target_letter"])
        total += count
        lines.append(f"{word}: {' '.join(word.lower())}: +{count}={total}")
    return ended(lines, total)


def spell_backward(entry: Entry) -> str:
    """Return a solution with the letters, and then the letters backward."""
    word = entry["word"]
    return ended([" ".join(word), " ".join(reversed(word))], word[::-1])


def time_intervals(entry: Entry) -> str:
    """Return a solution unit by unit from the smallest. A negative unit borrows from the next one."""
    units = ("s", "min", "h")[entry["expected_format"].count(":") == 1 :]
    start, end = (datetime.fromisoformat(entry[key]) for key in ("start_time", "end_time"))
    times = [(time.second, time.minute, time.hour)[-len(units) :] for time in (start, end)]
    lines, made, borrowed = [], [], False
    for unit, before, after in zip(units, *times, strict=True):
        difference = after - before
        steps = [add(after, -before)]
        if borrowed:
            steps.append(add(difference, -1))
            difference -= 1
        if borrowed := difference < 0:
            steps.append(add(difference, 60))
            difference += 60
        lines.append(f"{unit}: {', '.join(steps)}")
        made.append(difference)
    return ended(lines, ":".join(f"{part:02d}" for part in reversed(made)))


def calendar_arithmetic(entry: Entry) -> str:
    """Return a solution that drops whole weeks, and then counts the days that are left."""
    days, step = abs(entry["offset_days"]), 1 if entry["offset_days"] > 0 else -1
    lines = []
    for weeks in (70, 7):
        if days >= weeks:
            lines.append(add(days, -(days // weeks) * weeks))
            days %= weeks
    today = datetime.fromisoformat(entry["start_date"]).weekday()
    names = [WEEKDAYS[(today + step * day) % 7] for day in range(days + 1)]
    return ended([*lines, " ".join(f"{day} {name}" for day, name in enumerate(names))], names[-1])


def gsm_symbolic(entry: Entry) -> str:
    """Return the solution of the data set itself."""
    return ended(story_lines(entry), entry["answer"])


def story_lines(entry: Entry) -> list[str]:
    """Return the lines of its solution, without the answer."""
    text = _WHOLE.sub(r"\1", entry["answer_cot"].rpartition("####")[0])
    return [line.strip() for line in text.splitlines() if line.strip()]


def is_sound(entry: Entry) -> bool:
    """Whether the solution of the data set ends with its answer, and none of its equations is evidently false."""
    answer = entry["answer_cot"].rpartition("####")[2].strip().replace(",", "")
    try:
        is_same = Fraction(answer) == Fraction(entry["answer"])
    except ValueError:
        return False
    lines = story_lines(entry)
    return is_same and not any(_LONG_DECIMAL.search(line) for line in lines) and all(map(_is_true, lines))


def _is_true(line: str) -> bool:
    """Whether the two sides of each equation are equal, as far as they are plain arithmetic."""
    sides = [_NOT_ARITHMETIC.sub("", _PRODUCT.sub("*", side)) for side in _THOUSANDS.sub("", line).replace("÷", "/").split("=")]
    for before, after in pairwise(sides):
        left, right = _LEFT.search(before), _RIGHT.search(after)
        try:
            if left and right and value(parse(left[0])) != value(parse(right[1].rstrip("."))):
                return False
        except (ValueError, ZeroDivisionError):
            continue
    return True
