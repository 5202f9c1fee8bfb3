"""A node of a search tree: a partial or whole answer."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from strategies.core.results import NodeState, TraceNode
from strategies.core.values import Candidate
from strategies.voting.count import mean_logprob

ROOT = -1
"""The id of the root, which is the prompt itself."""


@dataclass(slots=True, eq=False)
class Node:
    """A partial or whole answer.

    Attributes:
        path: everything from the prompt to here; its `step_start` marks the last step.
        parent: None for the root.
        depth: number of steps from the prompt.
        children: those that are part of the tree.
        state: what the search has done with it.
        score: the verifier's score of the last step, or of the whole path, in [0, 1]; None if it was not scored.
        value: what the search makes of the scores along the path; it decides which nodes are continued.
        visits: how often Monte Carlo tree search has backed up a value through it.
        total: sum of these values.
        pending: number of expansions beneath it that are under way.
        is_rollout: drawn to its end only to find the value of its parent; never continued.

    """

    path: Candidate
    parent: "Node | None" = None
    depth: int = 0
    children: list["Node"] = field(default_factory=list)
    state: NodeState = NodeState.OPEN
    score: float | None = None
    value: float | None = None
    visits: int = 0
    total: float = 0.0
    pending: int = 0
    is_rollout: bool = False

    @property
    def id(self) -> int:
        """The index of the path, which is also that of its last branch."""
        return self.path.index

    @property
    def rank(self) -> tuple[float, int]:
        """A key to sort by: the highest value first, and of equal ones the one that was asked for first."""
        return -(self.value or 0.0), self.id

    @property
    def is_open(self) -> bool:
        """Whether it can be continued."""
        return self.path.finish_reason == "step" and self.state is NodeState.OPEN

    @property
    def text(self) -> str:
        """The text of the last step."""
        return self.path.last_step

    def trace(self) -> TraceNode:
        """Return the node at this moment, for callers who watch or read the search."""
        is_first = self.parent is None or self.parent.id == ROOT
        return TraceNode(
            id=self.id,
            parent=None if is_first or self.parent is None else self.parent.id,
            text=self.text,
            tokens=len(self.path.token_ids) - self.path.step_start,
            state=self.state,
            score=self.score,
            value=self.value,
            visits=self.visits,
            finish_reason=self.path.finish_reason,
            cost=self.path.cost,
        )


def upwards(node: Node) -> Iterator[Node]:
    """Yield the node and all nodes above it, up to the root."""
    current: Node | None = node
    while current is not None:
        yield current
        current = current.parent


def step_logprob(node: Node) -> float:
    """Return the mean log-probability of the last step's tokens; minus infinity if there are none."""
    return mean_logprob(node.path, node.path.step_start)
