"""The questions that the shipped policy is fitted to and evaluated on: all families of the suite, and some of GSM8K.

`python -m benchmarks.policy_questions fit OUT`, `… test OUT`. The two files share no question, and the adapter was trained on none.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.quality.tasks import GSM8K
from benchmarks.suite.families import BINS, FAMILIES, TRAINING
from benchmarks.suite.questions import INSTRUCTION, mixed

SPLITS = {"fit": ("train", 20, 1000), "test": ("test", 10, 0)}
"""The split of the suite, the questions of each setting, and how many are skipped: the adapter was trained on the first thousand."""

STORIES = {"fit": range(60), "test": range(7000, 7040)}
"""Lines of GSM8K's training split. They are too hard for the embedded model, so that a policy can learn to give up."""

STORY_BIN = 3


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_questions", description=__doc__)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    lines = [*_sums(arguments.split), *_stories(arguments.split)]
    arguments.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _sums(split: str) -> Iterator[dict[str, object]]:
    source, count, skip = SPLITS[split]
    for one in mixed([family.name for family in TRAINING], list(BINS), source, count, skip):
        yield _line(one.prompt, one.answer, one.family, one.bin, FAMILIES[one.family].kind.served_as)


def _stories(split: str) -> Iterator[dict[str, object]]:
    entries = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    for entry in (entries[place] for place in STORIES[split]):
        answer = entry["answer"].rpartition("####")[2].strip().replace(",", "")
        yield _line(f"{entry['question']}\n{INSTRUCTION}", answer, "gsm8k", STORY_BIN, "math")


def _line(prompt: str, answer: str, task: str, number: int, kind: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": prompt}], "answer": answer, "kind": kind, "task": task, "bin": number}


if __name__ == "__main__":
    main()
