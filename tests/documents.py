"""Reads the documents: their code blocks with the markers before them, their links and their headings."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.tools import ROOT

DOCUMENTS = [
    *(
        ROOT / name
        for name in (
            "README.md",
            "CONTRIBUTING.md",
            "CHANGELOG.md",
            "deploy/README.md",
            "examples/README.md",
            "examples/plugin/README.md",
            "benchmarks/results/README.md",
        )
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


class Block(NamedTuple):
    """One fenced block of code: where its first line of code stands (1 is the first line), and why it is not run, if it is not."""

    path: Path
    line: int
    language: str
    code: str
    reason: str | None

    @property
    def name(self) -> str:
        """Where the block stands, for messages."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(path: Path, *languages: str) -> list[Block]:
    """Return the blocks of a document in these languages, or all of them."""
    text = path.read_text(encoding="utf-8")
    found = [
        Block(path, text.count("\n", 0, match.start("code")) + 1, match["language"], match["code"], match["reason"])
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def run_blocks(path: Path, *languages: str) -> list[Block]:
    """Return the blocks that the tests run."""
    return [block for block in blocks(path, *languages) if block.reason is None]


def prose(path: Path) -> str:
    """Return the document without its blocks of code."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def links(path: Path) -> list[str]:
    """Return the targets of all links and pictures that are not on another host."""
    targets = ["".join(groups) for groups in _LINK.findall(prose(path))]
    return [target for target in targets if not re.match(r"https?:|mailto:", target)]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ +(.+?)(?: *\{#[\w-]+\})?$", prose(path), re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"[\s]+", "-", slug) for slug in slugs}
