"""The questions of the splits. Each split has its own seeds, and none shares a text with `validation` and `test`."""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from benchmarks.quality.tasks import Question, Task, dataset
from benchmarks.suite.families import BINS, FAMILIES, Family
from benchmarks.suite.worked_numbers import Entry

INSTRUCTION = "Work it out in short steps, then give the final answer alone on the last line, after `####`."
"""The instruction of all families and models."""

HELD_BACK = {"test": 50, "validation": 100}
"""The most questions of each setting in a split. Later splits leave these questions out."""

SPLITS = ("test", "validation", "train", "thoughts")
"""Each split leaves out what the splits before it hold back."""

MAX_TOKENS = 384
VERSION = 1
"""Raised when questions or checks change. Older answers do not count any more."""

_SEED_STEP = 10**8
"""The distance of the seeds. reasoning-gym adds the number of an entry to the seed, so it must exceed the number of entries."""

_NUM_ENTRIES = 10**6
"""The number of entries that a setting of a split is taken from."""

_MAX_MISSES = 2000
"""After so many entries in a row without a new question there are assumed to be no more."""


class TooMany(Exception):
    """More questions were requested than a split has."""


@dataclass(frozen=True)
class Example:
    """A question with its answer.

    Attributes:
        prompt: the one message of the user.
        worked: a solution that ends with the marked answer; "" for families that are held out.
        entry: what the question was made from.

    """

    family: str
    bin: int
    prompt: str
    answer: str
    worked: str
    entry: Entry = field(repr=False, compare=False)


def examples(name: str, number: int, split: str, count: int) -> list[Example]:
    """Return the first `count` questions of a family in bin `number`, fewer if there are no more; raises `TooMany`."""
    limit = HELD_BACK.get(split, count)
    if count > limit:
        raise TooMany(f"{split} has {limit} questions of each setting, not {count}")
    family, known, misses = FAMILIES[name], set(_left_out(name, split)), 0
    found: list[Example] = []
    for entry in _entries(family, number, split):
        if len(found) == count or misses > _MAX_MISSES:
            break
        prompt = f"{family.question(entry)}\n{INSTRUCTION}"
        misses += 1
        if prompt not in known:
            known.add(prompt)
            misses = 0
            worked = family.worked(entry) if family.worked else ""
            found.append(Example(name, number, prompt, family.gold(entry), worked, entry))
    return found


def _entries(family: Family, number: int, split: str) -> Iterator[Entry]:
    seed = _SEED_STEP * (1 + 10 * SPLITS.index(split) + number)
    source = dataset(family.name, seed=seed, size=_NUM_ENTRIES, **family.settings[number - 1])
    for index in range(_NUM_ENTRIES):
        entry = source[index]
        flat = {**entry["metadata"], "question": entry["question"], "answer": entry["answer"]}
        if family.is_fit(flat, number):
            yield flat


@cache
def _left_out(name: str, split: str) -> frozenset[str]:
    """Return the prompts of the splits before this one, in all bins."""
    earlier = [before for before in SPLITS[: SPLITS.index(split)] if before in HELD_BACK]
    every = (one for before in earlier for number in BINS for one in examples(name, number, before, HELD_BACK[before]))
    return frozenset(one.prompt for one in every)


def mixed(names: list[str], bins: list[int], split: str, count: int, skip: int = 0) -> list[Example]:
    """Return `count` questions of each setting after the first `skip`, shuffled with a fixed seed."""
    found = [one for name in names for number in bins for one in examples(name, number, split, skip + count)[skip:]]
    random.Random(split).shuffle(found)
    return found


def tasks() -> dict[str, Task]:
    """Return one task for each family and bin by its name, such as `chain_sum-1`. Its questions are loaded later."""
    return {task.name: task for family in FAMILIES.values() for task in map(partial(_task, family), BINS)}


def _task(family: Family, number: int) -> Task:
    parts: tuple[Any, ...] = (VERSION, INSTRUCTION, family.settings[number - 1])
    revision = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]
    return Task(
        f"{family.name}-{number}",
        prompt=(),
        answer=family.kind.served_as,
        max_tokens=MAX_TOKENS,
        load=partial(_questions, family, number),
        bin=number,
        revision=revision,
    )


def _questions(family: Family, number: int, count: int) -> list[Question]:
    """Return questions of the test."""
    found = examples(family.name, number, "test", count)
    return [Question(index, one.prompt, partial(family.kind.is_right, gold=one.answer)) for index, one in enumerate(found)]
