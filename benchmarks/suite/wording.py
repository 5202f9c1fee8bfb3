"""How questions of reasoning-gym are put, and which are kept.

What would keep a model from working in steps ("give only the result") is taken out, and what a checker needs is said.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from benchmarks.suite import expressions
from benchmarks.suite import worked_numbers as numbers
from benchmarks.suite import worked_words as words
from benchmarks.suite.worked_numbers import Entry

MAX_CHARS = 220
"""Of a solution in digits, where a character is a token."""

PEOPLE = {
    "male_names": ["James", "John", "Robert", "Michael", "William", "David", "Richard", "Joseph", "Thomas", "Charles", "Peter"],
    "female_names": ["Mary", "Emma", "Olivia", "Sophia", "Isabella", "Emily", "Abigail", "Grace", "Alice", "Hannah", "Lucy"],
}
"""Names that tell who is male: reasoning-gym has some that do not."""


def without(pattern: str) -> Callable[[Entry], str]:
    """The question without a passage."""
    compiled = re.compile(pattern, re.DOTALL)
    return lambda entry: compiled.sub("", entry["question"]).strip()


def listed(several: list[str]) -> str:
    """Numbers without `.0` and `-0`."""
    return ", ".join(f"{float(number) + 0:g}" for number in several)


def sorting(entry: Entry) -> str:
    """Of `number_sorting`."""
    shown = listed(entry["original_numbers"])
    return f"Sort these numbers in {entry['direction']} order: {shown}\nAnswer with the numbers, separated by commas."


def filtering(entry: Entry) -> str:
    """Of `number_filtering`."""
    keep, size = entry["operation"].split("_")
    shown, limit = listed(entry["original_numbers"]), listed([entry["filter_value"]])
    return (
        f"{keep.capitalize()} all numbers {size} than {limit} in this list: {shown}\n"
        "Answer with the numbers that are left, in the same order, separated by commas."
    )


def geometry(entry: Entry) -> str:
    """Of `simple_geometry`: whole degrees."""
    return re.sub(r"\s*Return only.*", "", entry["question"]).replace(".0°", "°")


def legs(entry: Entry) -> str:
    """Of `leg_counting`: its last sentence."""
    return f"How{entry['question'].rpartition('Now, how')[2].rstrip()}"


def reversal(entry: Entry) -> str:
    """Of `word_sequence_reversal`."""
    return f"Reverse this list of words: {', '.join(entry['words'])}\nAnswer with the words, separated by commas."


def relation(entry: Entry) -> str:
    """Of `family_relationships`."""
    return f"{entry['question'].partition('?')[0]}? Answer with one word."


def is_workable(entry: Entry, _bin: int) -> bool:
    """Whether every division comes out even, nothing is divided by a negative number, and the solution is no longer than others."""
    try:
        tree = expressions.parse(entry["expression"])
        parts = [(a, sign, b) for _, a, sign, b in expressions.operations(tree)]
        value = expressions.value(tree)
    except (ValueError, ZeroDivisionError):
        return False
    is_exact = all(sign != "/" or ((a / b).denominator == 1 and b > 0) for a, sign, b in parts)
    return is_exact and value == Fraction(entry["answer"]) and len(numbers.basic_arithmetic(entry)) < MAX_CHARS


def is_small(entry: Entry, _bin: int) -> bool:
    """Whether the numbers of an equation have few digits."""
    return max(map(abs, numbers.linear(entry["equation"], entry["variable"]))) < 3000


def is_told_in_steps(entry: Entry, number: int) -> bool:
    """Of `gsm_symbolic`, whose bins are numbers of steps; long questions and long or false solutions are left out."""
    lines = words.story_lines(entry)
    is_short = len(entry["question"]) < 600 and sum(map(len, lines)) < 450
    return is_short and len(lines) in {1: (1, 2), 2: (3,), 3: (4, 5)}[number] and words.is_sound(entry)
