"""The wording of reasoning-gym's questions, and which of them are kept.

Passages that keep a model from working in steps ("give only the result") are removed, and what a check needs is added.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from benchmarks.suite import expressions
from benchmarks.suite import worked_numbers as numbers
from benchmarks.suite import worked_words as words
from benchmarks.suite.worked_numbers import Entry

MAX_CHARS = 220
"""The most characters of a solution in digits, where a character is a token."""

PEOPLE = {
    "male_names": ["James", "John", "Robert", "Michael", "William", "David", "Richard", "Joseph", "Thomas", "Charles", "Peter"],
    "female_names": ["Mary", "Emma", "Olivia", "Sophia", "Isabella", "Emily", "Abigail", "Grace", "Alice", "Hannah", "Lucy"],
}
"""Names that show the sex of a person. Some of reasoning-gym's names do not."""


def without(pattern: str) -> Callable[[Entry], str]:
    """Return a function that removes a passage from the question."""
    compiled = re.compile(pattern, re.DOTALL)
    return lambda entry: compiled.sub("", entry["question"]).strip()


def listed(several: list[str]) -> str:
    """Return numbers without `.0` and `-0`, separated by commas."""
    return ", ".join(f"{float(number) + 0:g}" for number in several)


def sorting(entry: Entry) -> str:
    """Return a question of `number_sorting`."""
    shown = listed(entry["original_numbers"])
    return f"Sort these numbers in {entry['direction']} order: {shown}\nAnswer with the numbers, separated by commas."


def filtering(entry: Entry) -> str:
    """Return a question of `number_filtering`."""
    keep, size = entry["operation"].split("_")
    shown, limit = listed(entry["original_numbers"]), listed([entry["filter_value"]])
    return (
        f"{keep.capitalize()} all numbers {size} than {limit} in this list: {shown}\n"
        "Answer with the numbers that are left, in the same order, separated by commas."
    )


def geometry(entry: Entry) -> str:
    """Return a question of `simple_geometry` with whole degrees."""
    return re.sub(r"\s*Return only.*", "", entry["question"]).replace(".0°", "°")


def legs(entry: Entry) -> str:
    """Return the last sentence of a question of `leg_counting`."""
    return f"How{entry['question'].rpartition('Now, how')[2].rstrip()}"


def reversal(entry: Entry) -> str:
    """Return a question of `word_sequence_reversal`."""
    return f"Reverse this list of words: {', '.join(entry['words'])}\nAnswer with the words, separated by commas."


def relation(entry: Entry) -> str:
    """Return a question of `family_relationships`."""
    return f"{entry['question'].partition('?')[0]}? Answer with one word."


def is_workable(entry: Entry, _bin: int) -> bool:
    """Whether every division has an integer result and a positive divisor, and the solution is short."""
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
    """Whether a question of `gsm_symbolic` has the number of steps of a bin, is short, and has a short and true solution."""
    lines = words.story_lines(entry)
    is_short = len(entry["question"]) < 600 and sum(map(len, lines)) < 450
    return is_short and len(lines) in {1: (1, 2), 2: (3,), 3: (4, 5)}[number] and words.is_sound(entry)
