"""The tree that searches grow: partial answers as token prefixes of one another, so that the engine's prefix cache is hit.

Nodes are numbered in the order in which they were asked for, never in that of completion: the number is the branch's index, and so
its seed. What to grow next, and what to keep, is the business of each search.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from strategies.core.context import StrategyContext
from strategies.core.parameters import Select
from strategies.core.ports import Emit, Model
from strategies.core.results import NodeState, Progress, Result
from strategies.core.strategy import ended
from strategies.core.values import Candidate, Draw, Step, StopReason, Task
from strategies.search.node import ROOT, Node
from strategies.search.scorer import Scorer
from strategies.voting.selection import choose, opening_words


class Tree:
    """Grows over a model, for one task.

    Args:
        judge: scores what has grown.
        step: how a step ends; a task under a grammar has whole answers for steps, since a grammar cannot begin in the middle.
        depth: steps of an answer; the last one runs to its end.

    """

    def __init__(self, task: Task, model: Model, emit: Emit, scorer: Scorer, *, step: Step, depth: int) -> None:
        self.task = task
        self.model = model
        self.scorer = scorer
        self._emit = emit
        self._step = step
        self._depth = 1 if task.is_constrained else depth
        self.root = Node(Candidate(ROOT, "", (), "step"))
        self.nodes: list[Node] = []
        self.num_finals = 0
        self.proven: Node | None = None
        self._next_id = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to look for, or to spend."""
        return self.proven is not None or self.model.stopped is not None

    @property
    def finals(self) -> list[Node]:
        """Whole answers, by id."""
        return sorted((node for node in self.nodes if node.path.is_complete), key=lambda node: node.id)

    def reserve(self, num: int) -> int:
        """The first of `num` ids, kept for nodes that are grown later than others and must not depend on when."""
        first = self._next_id
        self._next_id += num
        return first

    async def grow(
        self, wants: Sequence[tuple[Node, int]], *, first: int | None = None, is_last: bool = False
    ) -> list[list[Node]]:
        """Draw so many next steps of each node, all together; the children of each, by id, not attached yet.

        `first` is an id that was reserved for them; with `is_last` they run to the answer's end.
        """
        first = self.reserve(sum(num for _, num in wants)) if first is None else first
        async with asyncio.TaskGroup() as group:
            tasks = []
            for node, num in wants:
                tasks.append(group.create_task(self._continue(node, num, first, is_last=is_last)))
                first += num
        return [task.result() for task in tasks]

    def graft(self, node: Node, thoughts: Iterable[str]) -> list[Node]:
        """Children of texts that were written elsewhere, such as proposals; not attached yet."""
        return [self._child(node, Candidate(self.reserve(1), text, self.task.encode(text), "step")) for text in thoughts]

    def attach(self, nodes: Iterable[Node]) -> None:
        """Make them part of the tree, in an order that does not depend on who was ready first.

        Of what an exact verifier says note is taken: of an answer that it proves, and of a step that it refutes, which is not continued.
        """
        for node in nodes:
            self.nodes.append(node)
            self.num_finals += node.path.is_complete
            if node.parent is not None:
                node.parent.children.append(node)
            if self.proven is None and self.scorer.has_proven(node.path, node.score or 0.0):
                self.proven = node
            if self._is_refuted(node) and node.is_open:
                node.state = NodeState.PRUNED

    async def score(self, nodes: Sequence[Node], *, is_whole: bool = False) -> None:
        """Ask for the verdict on each node: on its last step, or on the whole of it."""
        paths = [replace(node.path, step_start=0, last_step=node.path.text) if is_whole else node.path for node in nodes]
        for node, score in zip(nodes, await self.scorer.score(paths), strict=True):
            node.score = node.value = score

    async def complete(self, num: int) -> None:
        """Draw the best path to its end, `num` times, where a search stopped before any answer was whole."""
        going = [node for node in self._frontier() if node.is_open]
        if self.finals or self.is_over or not going:
            return
        best = min(going, key=lambda node: node.rank)
        [answers] = await self.grow([(best, num)], is_last=True)
        await self.score(answers)
        self.attach(answers)
        self.report(f"Finished step {best.depth + 1} and what follows", answers)

    def drop_duplicates(self, nodes: Iterable[Node]) -> list[Node]:
        """Those that have come to something new, the eldest of equals; the others are marked."""
        known: set[tuple[str, bool]] = set()
        distinct = []
        for node in nodes:
            key = (self.scorer.state(node.path), node.path.is_complete)
            if key in known:
                node.state = NodeState.DUPLICATE
            else:
                known.add(key)
                distinct.append(node)
        return distinct

    def keep(self, nodes: Iterable[Node], num: int) -> list[Node]:
        """The `num` best by value, the eldest of equals; the others are marked."""
        ranked = sorted(nodes, key=lambda node: node.rank)
        for node in ranked[num:]:
            node.state = NodeState.PRUNED
        return ranked[:num]

    def tell(self, going: Sequence[Node], new: Iterable[Node]) -> None:
        """After a round: how far it is, how many go on, how many answers there are, and the best so far."""
        leader = min(going or self.finals or [self.root], key=lambda node: node.rank)
        best = f"best value {leader.value or 0.0:.2f}: {opening_words(leader.text)}"
        self.report(f"Step {leader.depth}: {len(going)} go on, {self.num_finals} answers; {best}", new)

    def report(self, text: str, nodes: Iterable[Node] = ()) -> None:
        """Tell whoever watches."""
        self._emit(Progress(text, tuple(node.trace() for node in nodes)))

    async def result(
        self,
        context: StrategyContext,
        otherwise: StopReason,
        *,
        by: Select,
        scores: Mapping[int, float] | None = None,
        preferred: Collection[int] = (),
    ) -> Result:
        """Choose among the whole answers, or where there is none yet, among the leaves: at any moment there is a best so far.

        `scores` by id are the verdicts unless told otherwise; those `preferred` come before all others that are whole.
        """
        scores = scores if scores is not None else {node.id: node.score or 0.0 for node in self.nodes}
        if self.proven is not None:
            by, preferred = "score", {self.proven.id}
        finals = self.finals
        answers = finals or self._frontier()
        paths = [node.path for node in answers]
        equivalence = context.equivalence
        chosen, scored = await choose(self.task, paths, scores, equivalence, by if finals else "score", preferred=preferred)
        for node in finals:
            node.state = NodeState.FINAL
        read = {one.candidate.index: one.answer for one in scored}
        winners = {one.candidate.index for one in chosen}
        for node in answers:
            if node.id in winners:
                node.state = NodeState.CHOSEN
        traces = tuple(replace(node.trace(), answer=read.get(node.id)) for node in sorted(self.nodes, key=lambda node: node.id))
        self._emit(Progress("", traces))
        stop = StopReason.VERIFIED if self.proven is not None else ended(self.model, otherwise)
        return Result(chosen, scored, stop, traces, tuple(self.scorer.notes))

    def _frontier(self) -> list[Node]:
        """As far as the search came: nodes that nothing follows but what was refuted."""
        nodes = [node for node in self.nodes if not self._is_refuted(node)] or self.nodes
        known = set(nodes)
        return [node for node in nodes if known.isdisjoint(node.children)]

    def _is_refuted(self, node: Node) -> bool:
        return self.scorer.is_exact and node.score == 0

    async def _continue(self, node: Node, num: int, first: int, *, is_last: bool) -> list[Node]:
        step = Step() if is_last or node.depth + 1 >= self._depth else self._step
        prefix = (*self.task.prefix, *node.path.token_ids)
        draw = Draw(prefix, num, first_index=first, num_logprobs=self.scorer.num_logprobs, step=step)
        async with self.model.sample(draw) as samples:
            drawn = [candidate async for candidate in samples]
        drawn.sort(key=lambda candidate: candidate.index)
        return [self._child(node, one) for one in drawn]

    def _child(self, parent: Node, step: Candidate) -> Node:
        path = parent.path
        return Node(
            replace(
                step,
                text=path.text + step.text,
                token_ids=path.token_ids + step.token_ids,
                logprobs=path.logprobs + step.logprobs,
                step_start=len(path.token_ids),
                last_step=step.text,
            ),
            parent,
            parent.depth + 1,
        )
