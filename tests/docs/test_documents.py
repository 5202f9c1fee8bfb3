"""The documents by themselves: examples have a language and are well-formed, links and generated parts hold."""

import ast
import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.documents import DOCUMENTS, Block, anchors, blocks, links, prose
from tests.tools import ROOT

ALL = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def check_python(block: Block) -> None:
    """Compile a block of Python; `await` may stand outside of functions."""
    compile("\n" * (block.line - 1) + block.code, str(block.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def check_bash(block: Block) -> None:
    """Let bash read a block without running it."""
    run = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, f"{block.name}: {run.stderr}"


CHECKS = {
    "python": check_python,
    "bash": check_bash,
    "json": lambda block: json.loads(block.code),
    "toml": lambda block: tomllib.loads(block.code),
    "yaml": lambda block: list(yaml.safe_load_all(block.code)),
    "text": lambda block: block,
}


@ALL
def test_each_block_has_a_language_and_is_well_formed(path) -> None:
    """A block of another language than these needs a check of its own here."""
    for block in blocks(path):
        assert block.language in CHECKS, block.name
        CHECKS[block.language](block)


@ALL
def test_links_lead_somewhere(path) -> None:
    """Files exist, and so do the headings that are named. MkDocs checks the site; this checks what is read on GitHub, too."""
    for target in links(path):
        name, _, anchor = target.partition("#")
        if name.startswith(("../pictures/", "pictures/")):
            continue  # made by scripts/docs_hooks.py for the site
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{path.name}: {target}"


@ALL
def test_files_that_are_named_exist(path) -> None:
    """A file that is moved takes its name in the documents with it."""
    folders = "adapters|app|benchmarks|deploy|docs|examples|ponder|scripts|strategies|tests"
    named = re.findall(rf"`((?:{folders})/[a-z\d_./-]+)`", prose(path))  # capitals stand for a name of the reader's
    assert not [name for name in named if not (ROOT / name).exists() and not (path.parent / name).exists()]


def test_the_readme_is_short() -> None:
    """Two screens more than a stranger needs; lines that are wider than a window are tables and links."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 200
    long = [line for line in prose(ROOT / "README.md").splitlines() if len(line) > 120]
    assert all(line.startswith("|") or "](" in line or "<img" in line for line in long), long


def test_contributing_is_short() -> None:
    """What is longer belongs into docs/."""
    assert (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").count("\n") <= 150


def test_each_decision_is_a_short_record() -> None:
    """One topic a file, with its context, the decision, and what was tried; the index lists all of them."""
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text(encoding="utf-8")
    for path in sorted(folder.glob("*.md")):
        if path.name != "index.md":
            text = path.read_text(encoding="utf-8")
            assert f"({path.name})" in index, path.name
            assert "\n## Context\n" in text, path.name
            assert "\n## Decision\n" in text, path.name


def test_generated_parts_are_up_to_date() -> None:
    """`make format` writes them."""
    run = subprocess.run([sys.executable, "-m", "scripts.generate_docs", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
