"""What a search reports: its nodes, its progress while it runs, and the result."""

from dataclasses import dataclass, field
from enum import StrEnum

from strategies.core.values import Cost, ScoredCandidate, StopReason


class NodeState(StrEnum):
    """What a search did with a node."""

    OPEN = "open"  # may still be continued
    PRUNED = "pruned"  # others were better
    DUPLICATE = "duplicate"  # an elder sibling says the same
    FINAL = "final"  # a whole answer
    CHOSEN = "chosen"  # the answer that was given


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """One node of a search as it stands, for those who watch it or read it afterwards.

    Attributes:
        id: as the `index` of a candidate; `parent` is None for those that continue the prompt itself.
        text: of this step alone.
        tokens: generated for this step.
        verdict: the verifier's word on this step, in [0, 1]; `value` the search's on the path, by which it chose; None: not asked.
        visits: how often a tree search came by.
        finish_reason: as a candidate's.

    """

    id: int
    parent: int | None
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
    """The whole story of one run.

    Attributes:
        chosen: the answers, best first.
        candidates: every answer that was drawn, whole or cut, by index; one that is in the middle only where nothing came further.
        nodes: the tree, by id; empty where the candidates are all there is to tell.
        notes: what the caller should know, in words: a verifier that could not be asked, for instance.

    """

    chosen: tuple[ScoredCandidate, ...]
    candidates: tuple[ScoredCandidate, ...]
    stop_reason: StopReason
    nodes: tuple[TraceNode, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def agreement(self) -> float | None:
        """Share of the answers that say what the chosen one says; None where fewer than two could be compared."""
        answers = [one.answer for one in self.candidates if one.answer is not None]
        if len(answers) < 2 or not self.chosen:
            return None
        return answers.count(self.chosen[0].answer or "") / len(answers)


@dataclass(frozen=True, slots=True)
class Progress:
    """One line about the search for a caller who watches it, e.g. "Candidate 3 of 8: 42 (leading: 42, 3 votes)".

    `nodes` are those that are new or have changed.
    """

    text: str
    nodes: tuple[TraceNode, ...] = ()
