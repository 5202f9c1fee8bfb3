"""The index of the benchmark results: what each file is, which command writes it, and what reads it.

`python -m benchmarks.results_index` writes it to `benchmarks/results/README.md`. A test fails when it is out of date, and when a
file of the results is not in it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import RESULTS

INDEX = RESULTS / "README.md"

DOCUMENTATION = "the benchmark tables of the documentation (`scripts.generate_docs`)"


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        pattern: of their paths below the results.
        what: a file holds.
        command: what `python -m` runs to write it.
        readers: the tables and plots that read it.

    """

    pattern: str
    what: str
    command: str
    readers: str


KINDS = (
    Kind(
        "quality/*.jsonl",
        "the answers of one model to one task",
        "benchmarks.quality run",
        "`benchmarks.quality report`: tables and plots `quality-*`; `benchmarks.quality run` resumes from it",
    ),
    Kind("suite-*.png", "accuracy against FLOPs per question", "benchmarks.suite report", "a figure of the documentation"),
    Kind("quality-*.png", "accuracy against FLOPs per question", "benchmarks.quality report", "a figure of the documentation"),
    Kind(
        "policy/*.png", "accuracy against FLOPs, by bin, and reliability", "benchmarks.policy", "a figure of the documentation"
    ),
    Kind(
        "suite/pruning-*.jsonl",
        "the answers of a pruned, recovered or merged model to the suite",
        "benchmarks.pruning",
        "`benchmarks.pruning`: table `pruning`, and `benchmarks.suite report`: table `suite/summary`",
    ),
    Kind(
        "suite/*.jsonl",
        "the answers of one model with its adapters to the suite",
        "benchmarks.suite run",
        "`benchmarks.suite report`: table `suite/summary`; `benchmarks.suite run` resumes from it",
    ),
    Kind(
        "suite/*.setup",
        "the model and the adapters of the answers with the same name",
        "benchmarks.suite run",
        "`benchmarks.suite run`, which refuses to mix the answers of two models",
    ),
    Kind(
        "cascade/judging.jsonl",
        "what a large model says of the disagreeing answers of a small one",
        "benchmarks.judging ask",
        "`benchmarks.judging report`: tables `cascade/judging-*`; `ask` resumes from it",
    ),
    Kind(
        "training/curves.jsonl",
        "the accuracy after some steps of training, for each way to train",
        "benchmarks.training_cost run",
        "`benchmarks.training_cost report`: table `training`; `run` resumes from it",
    ),
    Kind(
        "training/runs.jsonl",
        "the time, FLOPs and memory of each way to train",
        "benchmarks.training_cost run, memory",
        "`benchmarks.training_cost report`: table `training`; `run` resumes from it",
    ),
)
"""The files without a title of their own. The first kind whose pattern matches holds."""


def files() -> list[Path]:
    """Return all results, below `RESULTS` and sorted."""
    return sorted(path.relative_to(RESULTS) for path in RESULTS.rglob("*") if path.is_file() and path != INDEX)


def kind_of(path: Path) -> Kind | None:
    """Return the kind of a result. A table says itself what it is. None for a file that nothing reads."""
    if path.suffix == ".json":
        table = json.loads((RESULTS / path).read_text(encoding="utf-8"))
        return Kind(str(path), table["title"], table["command"], DOCUMENTATION)
    return next((kind for kind in KINDS if path.match(kind.pattern)), None)


def index() -> str:
    """Return the index as Markdown; raises `ValueError` for a file that nothing reads."""
    lines = [
        "# Benchmark results",
        "",
        "Every figure of the documentation comes from these files. `python -m benchmarks.results_index` writes this page.",
        "",
        "| file | what it is | command (`python -m …`) | read by |",
        "|---|---|---|---|",
    ]
    for path in files():
        if (kind := kind_of(path)) is None:
            message = f"nothing reads {path}: remove it, or add its kind to benchmarks/results_index.py"
            raise ValueError(message)
        lines.append(f"| `{path}` | {kind.what} | `{kind.command}` | {kind.readers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point."""
    INDEX.write_text(index(), encoding="utf-8")


if __name__ == "__main__":
    main()
