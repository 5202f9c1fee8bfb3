"""Families of questions from reasoning-gym, each in three settings from easy to intermediate, for training or held out.

A family defines the wording of its questions, which entries are kept, and how an answer is checked. Training families have worked
solutions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.suite import checking, wording
from benchmarks.suite import worked_numbers as numbers
from benchmarks.suite import worked_words as words
from benchmarks.suite.checking import Kind
from benchmarks.suite.worked_numbers import Entry

BINS = (1, 2, 3)

Settings = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""Options of reasoning-gym for bins 1 to 3."""


def _is_any(_entry: Entry, _bin: int) -> bool:
    return True


@dataclass(frozen=True)
class Family:
    """One kind of question.

    Attributes:
        settings: of its generator.
        kind: of its answers.
        worked: returns a short right solution that ends with the marked answer; None for a family that is held out.
        question: returns the question, without what would keep a model from solving it in steps.
        gold: returns the right answer, as `kind` reads it.
        is_fit: whether an entry is kept for a bin. Ambiguous, trivial, long and wrong entries are not.

    """

    name: str
    settings: Settings
    kind: Kind
    worked: Callable[[Entry], str] | None = None
    question: Callable[[Entry], str] = lambda entry: str(entry["question"])
    gold: Callable[[Entry], str] = lambda entry: str(entry["answer"])
    is_fit: Callable[[Entry, int], bool] = _is_any


def _ranges(name: str, *values: tuple[float, float], **others: Any) -> Settings:
    """Return one setting for each pair of bounds of `min_{name}` and `max_{name}`."""
    first, second, third = ({f"min_{name}": low, f"max_{name}": high, **others} for low, high in values)
    return first, second, third


def _merged(*several: tuple[dict[str, Any], ...]) -> Settings:
    first, second, third = ({key: value for one in each for key, value in one.items()} for each in zip(*several, strict=True))
    return first, second, third


TRAINING = (
    Family(
        "chain_sum",
        _merged(_ranges("terms", (3, 4), (4, 5), (4, 4)), _ranges("digits", (1, 2), (2, 2), (3, 3))),
        checking.NUMBER,
        numbers.chain_sum,
    ),
    Family(
        "products",
        _merged(_ranges("terms", (3, 4), (2, 2), (2, 2)), _ranges("digits", (1, 1), (2, 2), (3, 3))),
        checking.NUMBER,
        numbers.products,
        wording.without(r"Give only .*"),
        is_fit=lambda entry, _: " 0" not in f" {entry['expression']}",
    ),
    Family(
        "basic_arithmetic",
        _merged(_ranges("terms", (3, 3), (4, 4), (4, 5)), _ranges("digits", (1, 1), (1, 1), (1, 2))),
        checking.NUMBER,
        numbers.basic_arithmetic,
        is_fit=wording.is_workable,
    ),
    Family(
        "simple_equations",
        _merged(_ranges("terms", (2, 2), (2, 3), (3, 4)), _ranges("value", (1, 12), (1, 25), (1, 50))),
        checking.NUMBER,
        numbers.simple_equations,
        is_fit=wording.is_small,
    ),
    Family(
        "gcd",
        _ranges("value", (4, 60), (20, 200), (100, 999)),
        checking.NUMBER,
        numbers.gcd,
        wording.without(r"Give only .*"),
    ),
    Family("count_bits", _ranges("n", (16, 1023), (1024, 8191), (8192, 65535)), checking.NUMBER, numbers.count_bits),
    Family(
        "leg_counting",
        _merged(_ranges("animals", (2, 3), (4, 5), (6, 6)), _ranges("instances", (1, 9), (1, 9), (1, 12))),
        checking.NUMBER,
        numbers.leg_counting,
        wording.legs,
    ),
    Family(
        "time_intervals",
        (
            {"task_types": ["time"], "max_time_difference_seconds": 3 * 3600},
            {"task_types": ["time"]},
            {"task_types": ["time_seconds"]},
        ),
        checking.CLOCK,
        words.time_intervals,
        is_fit=lambda entry, _: not entry["answer"].startswith("-"),
    ),
    Family(
        "calendar_arithmetic",
        (
            {"tasks": ["weekday_offset"], "offset_upper_bound": 20},
            {"tasks": ["weekday_offset"], "offset_upper_bound": 100},
            {"tasks": ["weekday_offset"], "offset_upper_bound": 365},
        ),
        checking.WEEKDAY,
        words.calendar_arithmetic,
        wording.without(r"(?<=\?).*"),
    ),
    Family(
        "number_sorting",
        _merged(
            _ranges("numbers", (5, 7), (8, 10), (9, 11), max_decimals=0),
            _ranges("value", (0.0, 99.0), (-99.0, 99.0), (-999.0, 999.0)),
        ),
        checking.NUMBERS,
        words.number_sorting,
        wording.sorting,
        gold=lambda entry: wording.listed(entry["sorted_numbers"]),
    ),
    Family(
        "letter_counting",
        _ranges("words", (2, 3), (4, 5), (6, 8)),
        checking.NUMBER,
        words.letter_counting,
        lambda entry: f"{entry['question']} Upper and lower case count alike.",
    ),
    Family("spell_backward", _ranges("word_len", (3, 4), (5, 6), (7, 8)), checking.WORD, words.spell_backward),
    Family(
        "gsm_symbolic",
        ({}, {}, {}),
        checking.NUMBER,
        words.gsm_symbolic,
        wording.without(r"Give the result as your final answer\. "),
        is_fit=wording.is_told_in_steps,
    ),
)

HELD_OUT = (
    Family("lcm", _ranges("value", (2, 12), (4, 30), (10, 60)), checking.NUMBER),
    Family(
        "decimal_chain_sum",
        _merged(
            _ranges("terms", (2, 2), (3, 3), (4, 4)),
            _ranges("digits", (1, 1), (1, 2), (2, 2)),
            _ranges("decimal_places", (1, 1), (1, 1), (1, 2)),
        ),
        checking.NUMBER,
    ),
    Family(
        "simple_geometry",
        _merged(_ranges("sides", (3, 3), (4, 4), (5, 6)), _ranges("angle", (20, 120), (40, 130), (90, 140))),
        checking.NUMBER,
        question=wording.geometry,
        is_fit=lambda entry, _: 0 < float(entry["answer"]) < 180,
    ),
    Family(
        "number_filtering",
        _merged(
            _ranges("numbers", (4, 5), (6, 8), (8, 10)),
            _ranges("value", (0.0, 99.0), (-99.0, 99.0), (-99.0, 99.0)),
            _ranges("decimals", (0, 0), (0, 0), (1, 1)),
        ),
        checking.NUMBERS,
        question=wording.filtering,
        gold=lambda entry: wording.listed(entry["result"]),
        is_fit=lambda entry, _: bool(entry["result"]),
    ),
    Family(
        "word_sequence_reversal",
        _ranges("words", (3, 4), (5, 6), (7, 9)),
        checking.WORDS,
        question=wording.reversal,
    ),
    Family(
        "family_relationships",
        _ranges("family_size", (4, 4), (5, 6), (7, 9), **wording.PEOPLE),
        checking.RELATION,
        question=wording.relation,
        is_fit=lambda entry, _: entry["answer"] in checking.RELATIONS,
    ),
)

FAMILIES = {family.name: family for family in (*TRAINING, *HELD_OUT)}
