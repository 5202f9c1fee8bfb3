"""The questions of the pools to which everything is fitted that holds for several models: all nineteen families, and some of GSM8K.

`python -m benchmarks.pool_questions fit OUT`, `… test OUT`. The two files share no question, and the adapter was trained on none.
Those to fit to have several wordings of what is asked for, since users have their own.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.policy_questions import STORY_BIN
from benchmarks.quality.tasks import GSM8K
from benchmarks.suite.families import BINS, FAMILIES
from benchmarks.suite.questions import INSTRUCTION, mixed

SPLITS = {"fit": ("train", 6, 1000, range(40)), "test": ("test", 5, 0, range(7000, 7025))}
"""The split of the suite, the questions of each setting, how many are skipped, and the lines of GSM8K's training split."""

BOXED = "Think step by step and put the final answer in \\boxed{}."
SHORT = "Reply with the final answer only."
WORDINGS = [f"\n{INSTRUCTION}"] * 10 + [""] * 4 + [f"\n{BOXED}"] * 3 + [f"\n{SHORT}"] * 3
"""What follows a question. Half of the questions have the instruction of the suite."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool_questions", description=__doc__)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    lines = list(_questions(arguments.split))
    random.Random(5).shuffle(lines)
    arguments.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _questions(split: str) -> Iterator[dict[str, object]]:
    source, count, skip, stories = SPLITS[split]
    generator = random.Random(11)

    def asked(question: str) -> list[dict[str, str]]:
        wording = generator.choice(WORDINGS) if split == "fit" else f"\n{INSTRUCTION}"
        return [{"role": "user", "content": f"{question}{wording}"}]

    for one in mixed(list(FAMILIES), list(BINS), source, count, skip):
        question, kind = one.prompt.removesuffix(f"\n{INSTRUCTION}"), FAMILIES[one.family].kind.served_as
        yield {"messages": asked(question), "answer": one.answer, "kind": kind, "task": one.family, "bin": one.bin}
    entries = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    for entry in (entries[place] for place in stories):
        answer = entry["answer"].rpartition("####")[2].strip().replace(",", "")
        yield {"messages": asked(entry["question"]), "answer": answer, "kind": "math", "task": "gsm8k", "bin": STORY_BIN}


if __name__ == "__main__":
    main()
