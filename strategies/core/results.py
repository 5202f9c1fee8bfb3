"""What a search reports: its nodes, its progress while it runs, and the result."""

from dataclasses import dataclass, field
from enum import StrEnum

from strategies.core.values import Candidate, Cost, ScoredCandidate, StopReason


class NodeState(StrEnum):
    """What a search has done with a node."""

    OPEN = "open"  # it may still be continued
    PRUNED = "pruned"  # others were better
    DUPLICATE = "duplicate"  # a sibling that was asked for earlier has come to the same
    FINAL = "final"  # a whole answer
    CHOSEN = "chosen"  # the answer that was returned


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """One node of a search at one moment, for callers who watch the search or read it afterwards.

    Attributes:
        id: the index of its candidate.
        parent: the id of the node that it continues; None if it continues the prompt.
        in_view: ids of all earlier answers that this answer was written with in view, the parent among them.
        text: of this step alone.
        tokens: number of tokens generated for this step.
        state: what the search has done with it.
        score: the verifier's score of this step, in [0, 1]; None if it was not scored.
        value: the search's value of the path, by which it chose; None if it has none.
        visits: how often Monte Carlo tree search has backed up a value through it.
        answer: the final answer that was read from it, if any.
        finish_reason: that of its candidate.
        cost: of drawing this step.

    """

    id: int
    parent: int | None
    in_view: tuple[int, ...] = ()
    text: str
    tokens: int
    state: NodeState = NodeState.OPEN
    score: float | None = None
    value: float | None = None
    visits: int = 0
    answer: str | None = None
    finish_reason: str | None = None
    cost: Cost = field(default=Cost(), compare=False)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one run.

    Attributes:
        chosen: the answers, best first.
        candidates: every answer that was drawn, by index; partial ones only if there is no whole one.
        stop_reason: why the run ended.
        nodes: the tree, by id; empty if it would only list the candidates.
        notes: sentences that the caller should read, for instance that a verifier failed.

    """

    chosen: tuple[ScoredCandidate, ...]
    candidates: tuple[ScoredCandidate, ...]
    stop_reason: StopReason
    nodes: tuple[TraceNode, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def agreement(self) -> float | None:
        """The share of the answers that are the same as the chosen one; None if fewer than two could be compared."""
        answers = [one.answer for one in self.candidates if one.answer is not None]
        if len(answers) < 2 or not self.chosen:
            return None
        return answers.count(self.chosen[0].answer or "") / len(answers)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a search reports while it runs.

    Attributes:
        text: one line, e.g. "Candidate 3 of 8: 42 (leading: 42, 3 of 3)"; empty if there are only nodes to report.
        nodes: those that are new or have changed.
        best: the answer that would be returned now, where the search knows it and the nodes do not tell: the leader of a vote.

    """

    text: str
    nodes: tuple[TraceNode, ...] = ()
    best: Candidate | None = None
