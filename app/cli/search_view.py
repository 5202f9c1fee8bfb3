"""A search as a tree on a terminal: one line for each node, and no more lines than the terminal has.

Texts of the model are escaped and never parsed as rich's markup, so that nothing in them can steer the terminal.
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

from app.cli.client import escape_controls, to_one_line

Node = Mapping[str, Any]

REFRESHES_PER_SECOND = 8

MARKS = {
    "chosen": ("★", "bold green"),
    "final": ("✓", "cyan"),
    "open": ("·", ""),
    "pruned": ("✗", "dim"),
    "duplicate": ("=", "dim"),
}
"""Mark and style for each state of a node, the best state first. The marks differ, so that colours are not needed."""

_RANKS = {state: rank for rank, state in enumerate(MARKS)}
_MIN_WORDS = 30
"""The least number of columns that are left for the text of the deepest node."""


class SearchProgress:
    """The state of a search, as far as the stream has reported it.

    Attributes:
        nodes: the nodes by id, those that were reported last at the end. The dictionary is replaced and never changed, because another
            thread draws it.
        answer: the text of the answer so far.
        account: the `ponder` object of the finished answer; `None` until it arrives.

    """

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.answer = ""
        self.account: Mapping[str, Any] | None = None
        self._reasoning = "waiting for the first step"
        self._started = time.monotonic()

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Add the nodes, the text and the account of one event of the stream."""
        ponder = event.get("ponder", {})
        if "nodes" in ponder:
            self.add_nodes(ponder["nodes"])
        elif "stop_reason" in ponder:  # the first event has the plan alone
            self.account = ponder
        for choice in event.get("choices", ()):
            self.answer += choice["delta"].get("content") or ""
            self._reasoning = (self._reasoning + (choice["delta"].get("reasoning") or ""))[-2000:]

    def add_nodes(self, nodes: Iterable[Node]) -> None:
        """Add new nodes, and replace those that have changed."""
        updates = {node["id"]: node for node in nodes}
        kept = {number: node for number, node in self.nodes.items() if number not in updates}
        self.nodes = {**kept, **updates}

    @property
    def seconds(self) -> float:
        """Seconds since the question was sent."""
        return time.monotonic() - self._started

    @property
    def status(self) -> str:
        """The last line of the answer, or of the reported progress while there is no answer."""
        lines = (self.answer or self._reasoning).rstrip().splitlines()
        return to_one_line(lines[-1][-500:]) if lines else ""


def draw_live(search: SearchProgress, console: Console) -> Live:
    """A context that draws the search again and again while its block runs, and erases the drawing at the end."""

    def picture() -> Group:
        status = Text(f"{search.seconds:.0f} s  {search.status}", "italic", no_wrap=True, overflow="ellipsis")
        return Group(*tree(search.nodes, console), status)

    return Live(get_renderable=picture, console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND)


def tree(nodes: Mapping[int, Node], console: Console) -> Iterator[Tree | Text]:
    """The nodes that fit on one screen as a tree, then a line with the number of the other nodes."""
    selected = _select_nodes(nodes, max(console.height - 4, 1))
    if selected:
        yield _build_tree(nodes, selected, console.width)
    if left_out := len(nodes) - len(selected):
        yield Text(f"… {left_out} more", "dim")


def _select_nodes(nodes: Mapping[int, Node], most: int) -> set[int]:
    """At most `most` nodes: the best and the most recent by turns, each with its ancestors as far as they fit."""
    if len(nodes) <= most:
        return set(nodes)
    selected: set[int] = set()
    best = sorted(nodes, key=lambda number: _rank(nodes[number]))
    for leaf in itertools.chain.from_iterable(zip(best, reversed(list(nodes)), strict=True)):
        number: int | None = leaf
        while number is not None and number in nodes and number not in selected and len(selected) < most:
            selected.add(number)
            number = nodes[number]["parent"]
        if len(selected) >= most:
            break
    return selected


def _rank(node: Node) -> tuple[int, float, int]:
    """A key that sorts by state, then by falling value; of equal nodes the newer comes first."""
    return _RANKS.get(node["state"], len(_RANKS)), -(node["value"] or 0.0), -node["id"]


def _build_tree(nodes: Mapping[int, Node], selected: set[int], width: int) -> Tree:
    """The selected nodes as rich's tree.

    A node whose parent is not selected hangs on its nearest selected ancestor. Levels so deep that no text would fit are not indented.
    """
    children: dict[int | None, list[int]] = defaultdict(list)
    for number in sorted(selected):
        parent = nodes[number]["parent"]
        while parent is not None and parent not in selected:
            parent = nodes[parent]["parent"] if parent in nodes else None
        children[parent].append(number)
    root = _NarrowTree("", hide_root=True)
    deepest = max(width - _MIN_WORDS, 0) // _NarrowTree.INDENT
    to_add: list[tuple[int, Tree, int]] = [(number, root, 0) for number in reversed(children[None])]
    while to_add:
        number, parent_branch, level = to_add.pop()
        node = nodes[number]
        has_gap = node["parent"] is not None and node["parent"] not in selected
        branch = parent_branch.add(_line(node, width - level * _NarrowTree.INDENT, has_gap=has_gap))
        inside, below = (branch, level + 1) if level < deepest else (parent_branch, level)
        to_add += [(child, inside, below) for child in reversed(children[number])]
    return root


class _NarrowTree(Tree):
    """A tree that indents by two columns a level, where rich's has four: searches are deep."""

    INDENT: ClassVar = 2
    ASCII_GUIDES = ("  ", "| ", "+-", "`-")
    TREE_GUIDES = [("  ", "│ ", "├╴", "└╴")] * 3

    def add(self, label: Any, **_styles: Any) -> Tree:
        """Add a child that indents by two columns too, and return it."""
        child = _NarrowTree(label)
        self.children.append(child)
        return child


def _line(node: Node, width: int, *, has_gap: bool) -> Text:
    """One line of a node: mark, the beginning of its text, its answer when it is finished, value and visits."""
    mark, style = MARKS.get(node["state"], MARKS["open"])
    answer = Text(f" → {to_one_line(node['answer'])}" if node["answer"] and node["state"] in ("chosen", "final") else "")
    answer.truncate(width // 3, overflow="ellipsis")
    value = "" if node["value"] is None else f"  {node['value']:.2f}"
    visits = f"  ×{node['visits']}" if node["visits"] else ""  # noqa: RUF001 - times
    head = f"{mark} ⋯ " if has_gap else f"{mark} "
    beginning = Text(to_one_line(node["text"][: 4 * width]))
    beginning.truncate(max(width - len(head + value + visits) - answer.cell_len, 1), overflow="ellipsis")
    return Text.assemble(head, beginning, answer, value, visits, style=style, no_wrap=True, overflow="ellipsis")


def summary_line(account: Mapping[str, Any], seconds: float) -> str:
    """One line with strategy, stop reason, tokens, FLOPs, seconds, and notes of the server."""
    cost = f"{account['tokens']['decoded']:,} tokens", format_flops(account["flops"]["total"]), f"{seconds:.1f} s"
    return to_one_line(" · ".join((account["strategy"], account["stop_reason"], *cost, *account["notes"])))


def format_flops(number: float) -> str:
    """A number of FLOPs with three digits and a unit from FLOPs to EFLOPs."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if number < 999.5:
            return f"{number:.3g} {unit}FLOPs"
        number /= 1000
    return f"{number:.3g} EFLOPs"


def plain_text(text: str, style: str = "") -> Text:
    """A text of others, escaped and without markup."""
    return Text(escape_controls(text), style)
