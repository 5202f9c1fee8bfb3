"""One Monte Carlo tree search in progress: which node is expanded next, which values that brings, and whether the outcome is decided."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from strategies.core.results import NodeState, Result
from strategies.core.values import AnswerKind, StopReason
from strategies.core.verifier import StrategyContext
from strategies.search.node import Node, step_logprob, upwards
from strategies.search.stepwise import StepParams, default_select
from strategies.search.tree import Tree
from strategies.search.uct import priors, puct, uct
from strategies.voting.count import VoteCount

MAX_NODES = 8192
"""Nodes of one tree. The time of one selection grows with it, and other requests wait meanwhile."""


class MctsParams(StepParams):
    """Parameters of `mcts`."""

    iterations: Annotated[int, Field(ge=1, le=1024, description="nodes that are expanded")] = 16
    expand: Annotated[int, Field(ge=1, le=64, description="next steps drawn of a node")] = 4
    workers: Annotated[int, Field(ge=1, le=64, description="expansions under way at once")] = 4
    selection: Annotated[
        Literal["uct", "puct", "budget"],
        Field(
            description="the rule by which a node is selected; `budget` (BG-MCTS): widely at first, more and more deeply as the budget "
            "is spent, and the last quarter completes answers"
        ),
    ] = "uct"
    tokens: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="with `budget`: what the search may generate, if the request's own budget is not smaller; null: "
            "iterations * expand * step_tokens",
        ),
    ] = None
    exploration: Annotated[float, Field(ge=0, le=100, description="weight of nodes with few visits")] = 1.4
    value: Annotated[
        Literal["verifier", "rollout", "agreement"],
        Field(
            description="of a step: the verifier's score of it; its mean score of answers completed from it; or the share of "
            "those that agree with the majority of all"
        ),
    ] = "verifier"
    rollouts: Annotated[int, Field(ge=1, le=16, description="answers completed from each step, to value it")] = 1
    widening: Annotated[
        float | None,
        Field(ge=0, lt=1, description="progressive widening: a node of N visits may have expand * N^widening children"),
    ] = None
    final: Annotated[
        Literal["vote", "value", "visits"],
        Field(description="the answer: weighted vote, highest score, or most visited path"),
    ] = "vote"


class MctsRun:
    """The statistics of one tree. Nothing in it depends on the order in which branches complete."""

    def __init__(self, params: MctsParams, tree: Tree, context: StrategyContext) -> None:
        self._params = params
        self._tree = tree
        self._context = context
        self._votes = VoteCount(tree.task, context.equivalence)
        self._weights: dict[int, float] = {}
        """Of each whole answer in the vote, by id."""
        self._leading_answer = ""
        self._answers: dict[Node, Counter[str | None]] = {tree.root: Counter()}
        """How often each answer was found beneath a node."""
        self._num_expansions: Counter[Node] = Counter()
        self._under_way: Counter[Node] = Counter()

    @property
    def num_iterations(self) -> int:
        """How many nodes are expanded at most."""
        return self._params.iterations

    def num_children(self, node: Node) -> int:  # noqa: ARG002 - for rules that look at it
        """Return how many next steps of a node an expansion draws."""
        return self._params.expand

    async def finish(self) -> None:
        """See to it that there is an answer."""
        await self._tree.complete(self._params.expand)

    def select(self) -> Node | None:
        """Return the node to expand next and mark the visit as pending (virtual loss); None when the whole tree is grown.

        Where every node that may be expanded is under way already, as the root is at first, one of these gets more children, so that no
        worker is idle.
        """
        found = self._find(self._tree.root) or min(
            self._under_way, key=lambda node: (self._num_expansions[node], node.id), default=None
        )
        if found is not None:
            self.begin(found)
        return found

    def begin(self, node: Node) -> None:
        """Mark an expansion of a node as under way."""
        self._num_expansions[node] += 1
        self._under_way[node] += 1
        for ancestor in upwards(node):
            ancestor.pending += 1

    def _find(self, node: Node) -> Node | None:
        """Return the node itself or the most urgent one beneath it that may be expanded."""
        if self._may_expand(node):
            return node
        children = [child for child in node.children if child.is_open and not child.is_rollout]
        urgency = dict(zip(children, self._urgencies(node, children), strict=True))
        for child in sorted(children, key=lambda child: (-urgency[child], child.id)):
            if (found := self._find(child)) is not None:
                return found
        # Where everything beneath is grown, no visits are added any more, but widening may still add children.
        return node if self._params.widening is not None and not node.pending else None

    def _may_expand(self, node: Node) -> bool:
        widening = self._params.widening
        allowed = 1 if widening is None else max(int(node.visits**widening), 1)
        return self._num_expansions[node] < allowed

    def _urgencies(self, parent: Node, children: Sequence[Node]) -> list[float]:
        """Return UCT or PUCT of each child. Pending visits count with value 0, so that workers spread over the tree."""
        exploration, parent_visits = self._params.exploration, parent.visits + parent.pending
        means = [self._total(child) / max(child.visits + child.pending, 1) for child in children]
        visits = [child.visits + child.pending for child in children]
        if self._params.selection == "uct":
            return [uct(mean, num, parent_visits, exploration) for mean, num in zip(means, visits, strict=True)]
        shares = priors([step_logprob(child) for child in children])
        return [
            puct(mean, num, parent_visits, exploration, share) for mean, num, share in zip(means, visits, shares, strict=True)
        ]

    def _total(self, node: Node) -> float:
        """Return the sum of the values backed up through a node; agreement is with the answer that leads at this moment."""
        if self._params.value != "agreement":
            return node.total
        return self._answers[node][self._leading_answer]

    async def expand(self, node: Node, num: int, first: int, num_rollouts: int) -> tuple[list[Node], list[Node]]:
        """Draw and score `num` next steps of a node and answers completed from them; return both. Their ids begin with `first`."""
        tree = self._tree
        [children] = await tree.extend([(node, num)], first=first, is_scored=self._params.value == "verifier")
        distinct = tree.drop_duplicates(children)
        parents = [(child, num_rollouts) for child in distinct if child.is_open and num_rollouts]
        completed = await tree.grow(parents, first=first + self._params.expand, is_last=True)
        rollouts = [rollout for group in completed for rollout in group]
        for rollout in rollouts:
            rollout.is_rollout = True
        if self._params.value != "verifier":
            await self.score_answers([*(child for child in distinct if child.path.is_complete), *rollouts])
        return children, rollouts

    async def score_answers(self, answers: Sequence[Node]) -> None:
        """Score whole answers where that counts: for `agreement` only a proof does, which ends the search."""
        if self._params.value != "agreement" or self._tree.scorer.is_exact:
            await self._tree.score(answers)

    async def back_up(self, node: Node, children: Sequence[Node], rollouts: Sequence[Node]) -> None:
        """Attach what an expansion drew, and count each value that it brought as a visit of every node above it."""
        for ancestor in upwards(node):
            ancestor.pending -= 1
        self._under_way -= Counter([node])
        self._tree.drop_duplicates([*node.children, *children])
        self._tree.attach(children)
        self._tree.attach(rollouts)
        for new in (*children, *rollouts):
            self._answers[new] = Counter()
            if new.path.is_complete:
                await self._votes.add(new.path)
                self._weights[new.id] = 1.0 if self._params.value == "agreement" else new.score or 0.0
            if self._has_value(new) and new.state is not NodeState.DUPLICATE:
                self._visit(new)
        if ranked := self._votes.ranked():
            self._leading_answer = ranked[0].answer
        for child in children:
            child.value = self._total(child) / child.visits if child.visits else None
        self._tree.report(self._line(node), [*children, *rollouts])

    def _has_value(self, node: Node) -> bool:
        """Return whether a node has a value of its own; else only the answers beneath it have one."""
        return node.score is not None if self._params.value != "agreement" else not node.is_open

    def _visit(self, node: Node) -> None:
        answer = self._votes.answers.get(node.id)
        for ancestor in upwards(node):
            ancestor.visits += 1
            ancestor.total += node.score or 0.0
            self._answers[ancestor][answer] += 1

    def is_decided(self, num_left: int) -> bool:
        """Return whether no other answer can overtake the leader in the iterations that are left."""
        if not num_left:
            return False
        most_new = num_left * self._params.expand * (1 if self._params.value == "verifier" else self._params.rollouts)
        if self._params.final == "visits":
            counts = sorted((child.visits for child in self._tree.root.children), reverse=True)
            return len(counts) > 1 and counts[0] - counts[1] > most_new
        if self._params.final == "value" or self._tree.task.kind is AnswerKind.OPEN:
            return max(self._weights.values(), default=0.0) >= 1.0
        votes = [sum(self._weights[member.index] for member in group.members) for group in self._votes.ranked(self._weights)]
        return bool(votes) and votes[0] - (votes[1] if len(votes) > 1 else 0.0) > most_new

    async def result(self, stop: StopReason) -> Result:
        """Choose the answer by vote, by score, or beneath the most visited path."""
        final = self._params.final
        scores = dict(self._weights)
        if self._params.value == "agreement":
            num_votes = sum(len(group.members) for group in self._votes.groups)
            scores = {one.index: len(group.members) / num_votes for group in self._votes.groups for one in group.members}
        scores |= {node.id: node.score or 0.0 for node in self._tree.nodes if node.id not in scores}
        select = default_select(self._tree.task) if final == "vote" else "score"
        preferred = self._most_visited() if final == "visits" else ()
        return await self._tree.result(self._context, stop, select=select, scores=scores, preferred=preferred)

    def _most_visited(self) -> set[int]:
        """Return the ids of the whole answers beneath the deepest node of the most visited path that has any."""
        path = [self._tree.root]
        while children := [child for child in path[-1].children if not child.is_rollout and child.visits]:
            path.append(max(children, key=lambda child: (child.visits, self._total(child) / child.visits, -child.id)))
        return next((ids for node in reversed(path) if (ids := _finals_beneath(node))), set())

    def _line(self, node: Node) -> str:
        ranked = self._votes.ranked(self._weights)
        leading = f"; leading: {ranked[0].answer}, {len(ranked[0].members)} of {self._tree.num_finals}" if ranked else ""
        return f"Expanded step {node.depth + 1}: {len(self._tree.nodes)} nodes{leading}"


def _finals_beneath(node: Node) -> set[int]:
    """Return the ids of the whole answers at or beneath a node."""
    found = {node.id} if node.path.is_complete else set()
    return found.union(*(_finals_beneath(child) for child in node.children))
