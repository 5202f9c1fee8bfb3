"""A node of a search's tree: a partial or whole answer."""

from dataclasses import dataclass, field

from strategies.core.results import NodeState, TraceNode
from strategies.core.values import Candidate
from strategies.voting.count import mean_logprob

ROOT = -1


@dataclass(slots=True, eq=False)
class Node:
    """A partial or whole answer.

    Attributes:
        path: everything from the prompt to here; `step_start` marks the last step.
        verdict: the verifier's word on it, in [0, 1]; `value` what the search makes of the verdicts along the path.
        visits: how often a tree search came by, and `total` the sum of the values that it brought; `pending` visits are under way.
        is_rollout: drawn to the end only to see where its parent leads, never continued.

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
        """As the path's index."""
        return self.path.index

    @property
    def rank(self) -> tuple[float, int]:
        """To sort by: the highest value first, the eldest of equals."""
        return -(self.value or 0.0), self.id

    @property
    def is_open(self) -> bool:
        """Whether it can be continued."""
        return self.path.finish_reason == "step" and self.state is NodeState.OPEN

    @property
    def text(self) -> str:
        """Of the last step."""
        return self.path.last_step

    def trace(self) -> TraceNode:
        """As it stands."""
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


def step_likelihood(node: Node) -> float:
    """Mean log-probability of the last step; minus infinity where nothing is known."""
    return mean_logprob(node.path, node.path.step_start)
