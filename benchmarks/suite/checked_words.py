"""Checked solutions of questions about words, lists, times and stories. Each function yields the steps of one family."""

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from benchmarks.suite import worked_words as words
from benchmarks.suite.checking import WEEKDAYS
from benchmarks.suite.checks import Step, compared, inverse, result, undone
from benchmarks.suite.slips import NoSlip, Plant
from benchmarks.suite.steps import add
from benchmarks.suite.worked_numbers import Entry


def time_intervals(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Add the difference of each unit to the start."""
    units = ("s", "min", "h")[entry["expected_format"].count(":") == 1 :]
    start, end = (datetime.fromisoformat(entry[key]) for key in ("start_time", "end_time"))
    times = [(time.second, time.minute, time.hour)[-len(units) :] for time in (start, end)]
    borrowed = carried = False
    for unit, before, after in zip(units, *times, strict=True):
        steps = [plant.line(add(after, -before))]
        if borrowed and not plant():
            steps.append(plant.line(add(result(steps[-1]), -1)))
        if borrowed := result(steps[-1]) < 0:
            steps.append(plant.line(add(result(steps[-1]), 60)))
        difference = result(steps[-1])
        if not 0 <= difference < 60:
            raise NoSlip
        check = [add(before, difference)]
        if carried:
            check.append(add(result(check[-1]), 1))
        if carried := result(check[-1]) >= 60:
            check.append(add(result(check[-1]), -60))
        yield Step((f"{unit}: {', '.join(steps)}",), *undone(f"{unit}: {', '.join(check)}", after))


def calendar_arithmetic(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Add the weeks again, and count the days back."""
    days, step = abs(entry["offset_days"]), 1 if entry["offset_days"] > 0 else -1
    for weeks in (70, 7):
        if days >= weeks:
            dropped = days // weeks * weeks
            line = plant.line(add(days, -dropped))
            yield Step((line,), *undone(add(result(line), dropped), days))
            days = result(line)
            if not 0 <= days < weeks:
                raise NoSlip
    start = datetime.fromisoformat(entry["start_date"]).weekday()
    slip = plant.rng.randint(1, days) if days and plant() else None
    names = [WEEKDAYS[(start + step * (day + (slip is not None and day >= slip))) % 7] for day in range(days + 1)]
    back = [WEEKDAYS[(WEEKDAYS.index(names[-1]) - step * day) % 7] for day in range(days + 1)]
    yield Step((_numbered(names),), *compared(_numbered(back), back[-1], WEEKDAYS[start]))


def _numbered(several: list[str], first: int = 0) -> str:
    return " ".join(f"{number} {one}" for number, one in enumerate(several, first))


def number_sorting(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Count the numbers before and after, and look whether each one follows the one before it."""
    *groups, answer = words.number_sorting(entry).splitlines()
    given = [int(float(number)) for number in entry["original_numbers"]]
    made = [int(number) for number in answer.removeprefix("#### ").split(", ")]
    place = plant.rng.randrange(1, len(made))
    if plant():
        made[place - 1 : place + 1] = reversed(made[place - 1 : place + 1])
    if plant():
        del made[place]
    is_descending = entry["direction"] == "descending"
    turn = next((at for at, (a, b) in enumerate(pairwise(made), 2) if (a < b if is_descending else a > b)), None)
    shown = _numbered(list(map(str, made[:turn])), 1)
    if turn:
        check, wrong = shown, f"{made[turn - 2]} is {'smaller' if is_descending else 'larger'} than {made[turn - 1]}"
    else:
        check, wrong = f"{_numbered(list(map(str, given)), 1)}; {shown}", ""
        if len(made) != len(given):
            wrong = f"not {len(given)}"
    yield Step(tuple(groups), "", "")
    yield Step((", ".join(map(str, made)),), check, wrong)


def letter_counting(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Count in each word from its end, and undo each sum."""
    total = 0
    for word in entry["span"]:
        letters = word.lower()
        right = letters.count(entry["target_letter"])
        count = right + 1 if plant() else right
        if right and plant():
            count = right - 1
        after = total + count
        check = f"{word}: {' '.join(reversed(letters))}: {right}"
        yield Step((f"{word}: {' '.join(letters)}: +{count}={after}",), *compared(check, right, count))
        total = after


def spell_backward(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Read the answer from its end."""
    word = entry["word"]
    letters = list(word)
    place = plant.rng.randrange(1, len(letters))
    if plant():
        del letters[place]
    made = letters[::-1]
    if plant():
        made[place - 1 : place + 1] = reversed(made[place - 1 : place + 1])
    if plant():
        del made[place]
    read = "".join(reversed(made))
    yield Step((" ".join(letters), " ".join(made)), *compared(" ".join(read), read, word))


_STORY = re.compile(r"(?<![-+*/.\d] )(?<![-+*/.\d])(\d+) *([-+*/]) *(\d+) *= *(\d+)(?![.\d])")


def gsm_symbolic(entry: Entry, plant: Plant) -> Iterator[Step]:
    """Undo the operation of each line; only the last one may have a slip."""
    told = words.story_lines(entry)
    for number, line in enumerate(told, 1):
        found = _STORY.findall(line)
        if len(found) != 1 or line.count("=") != 1:
            raise NoSlip
        left, sign, right, told_result = found[0]
        a, b, made = int(left), int(right), int(told_result)
        if number == len(told) and plant():
            wrong = plant.off(made)
            line = re.sub(rf"= *{made}\b", f"= {wrong}", line)  # noqa: PLW2901
            made = wrong
        yield Step((line,), *inverse(a, sign, b, made))
