"""A search on a terminal: its tree, one line a node and no more lines than there is room for.

What the model wrote is shown as plain text, so that nothing in it can steer the terminal (`client.clean`; rich's markup is never parsed).
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from app.cli.client import clean, one_line

Node = Mapping[str, Any]

REFRESHES_PER_SECOND = 8

MARKS = {
    "chosen": ("★", "bold green"),
    "final": ("✓", "cyan"),
    "open": ("·", ""),
    "pruned": ("✗", "dim"),
    "duplicate": ("=", "dim"),
}
"""By the state of a node, the best first: a mark that is there without colours too, and a style."""

_RANKS = {state: rank for rank, state in enumerate(MARKS)}
_MIN_WORDS = 30
"""Columns that the deepest node still has for its words."""


class Search:
    """What the stream has told so far. `nodes` is replaced, never changed, as another thread draws it; the last told are last."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.answer = ""
        self.account: Mapping[str, Any] | None = None
        self._reasoning = "waiting for the first step"
        self._started = time.monotonic()

    def take(self, event: Mapping[str, Any]) -> None:
        """One event of the stream."""
        ponder = event.get("ponder", {})
        if "nodes" in ponder:
            self.take_nodes(ponder["nodes"])
        elif "stop_reason" in ponder:  # the first chunk tells the plan alone
            self.account = ponder
        for choice in event.get("choices", ()):
            self.answer += choice["delta"].get("content") or ""
            self._reasoning = (self._reasoning + (choice["delta"].get("reasoning") or ""))[-2000:]

    def take_nodes(self, nodes: Iterable[Node]) -> None:
        """New nodes, and those that have changed."""
        told = {node["id"]: node for node in nodes}
        self.nodes = {**{number: node for number, node in self.nodes.items() if number not in told}, **told}

    @property
    def seconds(self) -> float:
        """Since the question was put."""
        return time.monotonic() - self._started

    @property
    def status(self) -> str:
        """How it goes: the last line of progress, or of the answer once that comes."""
        lines = (self.answer or self._reasoning).rstrip().splitlines()
        return one_line(lines[-1][-500:]) if lines else ""


def live(search: Search, console: Console) -> Live:
    """Draws the search while the block runs, and leaves nothing behind."""

    def picture() -> Group:
        status = Text(f"{search.seconds:.0f} s  {search.status}", "italic", no_wrap=True, overflow="ellipsis")
        return Group(*tree(search.nodes, console), status)

    return Live(get_renderable=picture, console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND)


def tree(nodes: Mapping[int, Node], console: Console) -> Iterator[Tree | Text]:
    """The tree as far as there is room for it on one screen, then how much of it is left out."""
    shown = _shown(nodes, max(console.height - 4, 1))
    if shown:
        yield _drawn(nodes, shown, console.width)
    if left_out := len(nodes) - len(shown):
        yield Text(f"… {left_out} more", "dim")


def _shown(nodes: Mapping[int, Node], room: int) -> set[int]:
    """The best and the most recently told by turns, each with as much of the path that led to it as there is room for."""
    if len(nodes) <= room:
        return set(nodes)
    shown: set[int] = set()
    best = sorted(nodes, key=lambda number: _rank(nodes[number]))
    for wanted in itertools.chain.from_iterable(zip(best, reversed(list(nodes)), strict=True)):
        at: int | None = wanted
        while at is not None and at in nodes and at not in shown and len(shown) < room:
            shown.add(at)
            at = nodes[at]["parent"]
        if len(shown) >= room:
            break
    return shown


def _rank(node: Node) -> tuple[int, float, int]:
    return _RANKS.get(node["state"], len(_RANKS)), -(node["value"] or 0.0), -node["id"]


def _drawn(nodes: Mapping[int, Node], shown: set[int], width: int) -> Tree:
    """Where the path to a node has gaps it hangs on what is shown of it; where levels would fill the width no more are indented."""
    children: dict[int | None, list[int]] = defaultdict(list)
    for number in sorted(shown):
        parent = nodes[number]["parent"]
        while parent is not None and parent not in shown:
            parent = nodes[parent]["parent"] if parent in nodes else None
        children[parent].append(number)
    root = _NarrowTree("", hide_root=True)
    deepest = max(width - _MIN_WORDS, 0) // _NarrowTree.INDENT
    under_way: list[tuple[int, Tree, int]] = [(number, root, 0) for number in reversed(children[None])]
    while under_way:
        number, home, level = under_way.pop()
        node = nodes[number]
        has_gap = node["parent"] is not None and node["parent"] not in shown
        branch = home.add(_line(node, width - level * _NarrowTree.INDENT, has_gap=has_gap))
        inside, below = (branch, level + 1) if level < deepest else (home, level)
        under_way += [(child, inside, below) for child in reversed(children[number])]
    return root


class _NarrowTree(Tree):
    """Two columns a level instead of four: searches are deep."""

    INDENT: ClassVar = 2
    ASCII_GUIDES = ("  ", "| ", "+-", "`-")
    TREE_GUIDES = [("  ", "│ ", "├╴", "└╴")] * 3

    def add(self, label: Any, **_styles: Any) -> Tree:
        """A child of the same kind."""
        child = _NarrowTree(label)
        self.children.append(child)
        return child


def _line(node: Node, width: int, *, has_gap: bool) -> Text:
    """Mark, opening words as far as they fit, the answer that a whole one comes to, value and visits."""
    mark, style = MARKS.get(node["state"], MARKS["open"])
    answer = Text(f" → {one_line(node['answer'])}" if node["answer"] and node["state"] in ("chosen", "final") else "")
    answer.truncate(width // 3, overflow="ellipsis")
    value = "" if node["value"] is None else f"  {node['value']:.2f}"
    visits = f"  ×{node['visits']}" if node["visits"] else ""  # noqa: RUF001 - times
    head = f"{mark} ⋯ " if has_gap else f"{mark} "
    words = Text(one_line(node["text"][: 4 * width]))
    words.truncate(max(width - len(head + value + visits) - answer.cell_len, 1), overflow="ellipsis")
    return Text.assemble(head, words, answer, value, visits, style=style, no_wrap=True, overflow="ellipsis")


def summary(account: Mapping[str, Any], seconds: float) -> str:
    """One line: what was done, why it ended, what it cost, and what else there is to know."""
    cost = f"{account['tokens']['decoded']:,} tokens", flops(account["flops"]["total"]), f"{seconds:.1f} s"
    return one_line(" · ".join((account["strategy"], account["stop_reason"], *cost, *account["notes"])))


def flops(number: float) -> str:
    """In a unit that can be read."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if number < 999.5:
            return f"{number:.3g} {unit}FLOPs"
        number /= 1000
    return f"{number:.3g} EFLOPs"


def text(words: str, style: str = "") -> Text:
    """Somebody else's text."""
    return Text(clean(words), style)
