"""The questions, generated with fixed seeds or held out, each with a check that shares no code with the server.

Every strategy gets the same prompt: an instruction, worked examples as earlier turns, and the question.
"""

import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.quality import prompts
from benchmarks.quality.arithmetic import solves

SEED = 2024
GSM8K = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k_train.jsonl"
NUM_HELD_OUT = 200

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_BOXED = re.compile(r"\\boxed\{[^\d{}-]{0,9}(-?\d[\d,]*(?:\.\d+)?)")


class NotInstalled(Exception):
    """A package of the extra `bench` is missing."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        verifier: the exact verifier that a request may name, None if there is none.

    """

    number: int
    text: str
    is_right: Callable[[str], bool]
    verifier: dict[str, Any] | None = None


@dataclass(frozen=True)
class Task:
    """A kind of question.

    Attributes:
        prompt: the messages before the question.
        answer: the kind of answer, as a request names it.
        max_tokens: of one answer.
        load: returns the first questions, by their number. A higher number does not change the first ones.
        bin: the difficulty, if the questions have several.
        revision: changes when the questions do.

    """

    name: str
    prompt: tuple[dict[str, str], ...]
    answer: str
    max_tokens: int
    load: Callable[[int], list[Question]]
    bin: int = 0
    revision: str = ""

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return the messages of a request."""
        return [*self.prompt, {"role": "user", "content": question}]


def tasks(gsm8k: Path = GSM8K) -> dict[str, Task]:
    """Return all tasks by name. Their questions are loaded later."""
    puzzle, equation, story = (prompts.turns(*each) for each in (prompts.PUZZLES, prompts.EQUATIONS, prompts.STORIES))
    every = (
        Task("game24", puzzle, "text", 96, _game24),
        Task("countdown", puzzle, "text", 96, _countdown),
        Task("equations", equation, "math", 160, _equations),
        Task("gsm8k", story, "math", 320, lambda count: _gsm8k(gsm8k, count)),
    )
    return {task.name: task for task in every}


def _game24(count: int) -> list[Question]:
    entries = _generate("puzzle24", count, min_value=1, max_value=10)
    return _puzzles(count, (([*entry["numbers"]], 24) for entry in entries))


def _countdown(count: int) -> list[Question]:
    limits = {"min_numbers": 3, "max_numbers": 4, "min_value": 1, "max_value": 12, "min_target": 10, "max_target": 60}
    entries = _generate("countdown", count, **limits)
    return _puzzles(count, (([*entry["numbers"]], entry["target"]) for entry in entries))


def _puzzles(count: int, generated: Iterable[tuple[list[int], int]]) -> list[Question]:
    """Return the first puzzles that differ in more than the order of their numbers, and are no worked examples."""
    known = {prompts.puzzle(sorted(numbers), target) for numbers, target, *_ in prompts.PUZZLE_EXAMPLES}
    found: list[Question] = []
    for numbers, target in generated:
        if len(found) < count and (key := prompts.puzzle(sorted(numbers), target)) not in known:
            known.add(key)
            found.append(_puzzle(len(found), numbers, target))
    return found


def _puzzle(number: int, numbers: list[int], target: int) -> Question:
    verifier = {"arithmetic": {"numbers": numbers, "target": target}}
    return Question(number, prompts.puzzle(numbers, target), lambda text: solves(text, numbers, target), verifier)


def _equations(count: int) -> list[Question]:
    entries = _generate("simple_equations", count, max_terms=3, max_value=20)[:count]
    return [_numeric(number, entry["question"], entry["answer"]) for number, entry in enumerate(entries)]


def _gsm8k(path: Path, count: int) -> list[Question]:
    lines = path.read_text(encoding="utf-8").splitlines()
    picked = [json.loads(lines[index]) for index in held_out(len(lines))[:count]]
    return [_numeric(number, one["question"], one["answer"].rpartition("####")[2]) for number, one in enumerate(picked)]


def held_out(num_lines: int) -> list[int]:
    """Return the lines of the training file that are held out for this benchmark. Training on the file must skip them."""
    return random.Random(SEED).sample(range(num_lines), NUM_HELD_OUT)


def _numeric(number: int, text: str, gold: str) -> Question:
    wanted = final_number(gold)
    return Question(number, text, lambda answer: final_number(answer) == wanted)


def final_number(text: str) -> Fraction | None:
    """Return the first number after the last `####`, else the last boxed number, else the last number."""
    _, is_marked, after = text.rpartition("####")
    found = _NUMBER.findall(after)[:1] if is_marked else []
    found = found or _BOXED.findall(text)[-1:] or _NUMBER.findall(text)[-1:]
    try:
        return Fraction(found[0].replace(",", "")) if found else None
    except (ValueError, ZeroDivisionError):
        return None


def _generate(name: str, count: int, **options: Any) -> list[dict[str, Any]]:
    """Return entries with their metadata, twice as many as `count`, since some may be dropped. `count` does not change the first ones."""
    entries = dataset(name, seed=SEED, size=2 * count, **options)
    return [{**entry["metadata"], "question": entry["question"], "answer": entry["answer"]} for entry in entries]


def dataset(name: str, *, seed: int, size: int, **options: Any) -> Any:
    """Return a data set of reasoning-gym. Its entry number i depends on `seed + i` and the options alone."""
    try:
        import reasoning_gym  # noqa: PLC0415 - only where questions are generated
    except ImportError as error:
        raise NotInstalled("reasoning-gym is not installed: .venv/bin/python -m pip install -e '.[bench]'") from error
    return reasoning_gym.create_dataset(name, seed=seed, size=size, **options)
