"""The index of the benchmark results is complete and up to date."""

import subprocess

from benchmarks import results_index
from benchmarks.results_index import INDEX, RESULTS, files, index
from scripts.generate_docs import ROOT


def test_the_index_is_up_to_date() -> None:
    """`python -m benchmarks.results_index` writes it."""
    assert INDEX.read_text(encoding="utf-8") == index()


def test_every_figure_is_shown_in_a_document() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    documents = [ROOT / name for name in tracked.stdout.split() if ROOT / name != INDEX]
    text = "".join(path.read_text(encoding="utf-8") for path in documents if path.is_file())
    assert not [str(path) for path in files() if path.suffix == ".png" and path.name not in text]


def test_every_setup_belongs_to_answers() -> None:
    setups = [path for path in files() if path.suffix == ".setup"]
    assert setups
    assert all((RESULTS / path).with_suffix(".jsonl").is_file() for path in setups)


def test_every_kind_of_results_exists() -> None:
    """A pattern that matches nothing is a leftover."""
    assert all(any(path.match(kind.pattern) for path in files()) for kind in results_index.KINDS)
