"""The tree that searches grow. Partial answers are token prefixes of one another, so that the engine's prefix cache is hit.

Nodes are numbered in the order in which they were asked for, never in that of completion. The number is the branch's index, and so
decides its seed. What to grow next, and what to keep, is up to each search.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from strategies.core.parameters import Select
from strategies.core.ports import Emit, Model
from strategies.core.results import NodeState, Progress, Result
from strategies.core.strategy import ended
from strategies.core.values import Candidate, Draw, Step, StopReason, Task
from strategies.core.verifier import StrategyContext
from strategies.search.loops import ends_in_loop
from strategies.search.node import ROOT, Node
from strategies.search.scorer import Scorer
from strategies.voting.selection import choose, opening_words

AGREED = 0.5
"""The score that steps must have, besides being equal, so that `Steps.tries` draws no others."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How the steps of an answer are drawn.

    Attributes:
        step: where a step ends.
        depth: the most steps of an answer; the last one runs to its end.
        first_temperature: of the first step; None for the request's.
        tries: next steps of a node that are drawn first. Where these are equal, and none is refuted, no others are drawn.
        align: tokens of a block of the prefix cache; steps end where one is full. None: they end anywhere.

    """

    step: Step
    depth: int
    first_temperature: float | None = None
    tries: int | None = None
    align: int | None = None

    def behind(self, prefix_tokens: int) -> Step:
        """Return the step that follows so many tokens.

        The cache holds whole blocks. A branch that continues k blocks and one token finds all of the k and computes one token. Without
        the one it would compute the last block again, since at least one token must be computed.
        """
        most = self.step.max_tokens
        if self.align is None or most is None:
            return self.step
        beyond = (prefix_tokens + most - 1) % self.align
        return replace(self.step, max_tokens=most - beyond if beyond < most else most)


class Tree:
    """A tree that grows over a model, for one task.

    Args:
        task: to be answered. Under a grammar an answer is a single step, since a grammar cannot begin in the middle of an answer.
        model: draws the steps.
        emit: receives the progress.
        scorer: scores the nodes.
        steps: how steps are drawn.

    Attributes:
        root: the prompt.
        nodes: those that are part of the tree, in the order in which they were attached.
        num_finals: number of whole answers among them.
        proven: the node whose answer an exact verifier has proven, if any.

    """

    def __init__(self, task: Task, model: Model, emit: Emit, scorer: Scorer, steps: Steps) -> None:
        self.task = task
        self.model = model
        self.scorer = scorer
        self._emit = emit
        self._steps = replace(steps, depth=1) if task.is_constrained else steps
        self.root = Node(Candidate(ROOT, "", (), "step"))
        self.nodes: list[Node] = []
        self.num_finals = 0
        self.proven: Node | None = None
        self._next_id = 0

    @property
    def is_over(self) -> bool:
        """Whether an answer is proven, or the budget is spent."""
        return self.proven is not None or self.model.stopped is not None

    @property
    def finals(self) -> list[Node]:
        """The whole answers, by id."""
        return sorted((node for node in self.nodes if node.path.is_complete), key=lambda node: node.id)

    def reserve(self, num: int) -> int:
        """Reserve `num` ids and return the first, for nodes that are grown later but whose ids must not depend on when."""
        first = self._next_id
        self._next_id += num
        return first

    async def grow(
        self, parents: Sequence[tuple[Node, int]], *, first: int | None = None, is_last: bool = False
    ) -> list[list[Node]]:
        """Draw next steps of several nodes together; return the children of each node, by id, not attached yet.

        Args:
            parents: nodes, each with the number of children to draw.
            first: the first of the ids that were reserved for the children; by default new ones are taken.
            is_last: the children run to the end of the answer.

        """
        first = self.reserve(sum(num for _, num in parents)) if first is None else first
        async with asyncio.TaskGroup() as group:
            tasks = []
            for node, num in parents:
                tasks.append(group.create_task(self._draw(node, num, first, is_last=is_last)))
                first += num
        return [task.result() for task in tasks]

    async def extend(
        self, parents: Sequence[tuple[Node, int]], *, first: int | None = None, is_scored: bool = True, is_whole: bool = False
    ) -> list[list[Node]]:
        """Draw next steps as `grow` does and score them, but no more of a node than its first ones call for (`Steps.tries`).

        Args:
            parents: as for `grow`, and so is `first`.
            first: the first of the reserved ids.
            is_scored: whether steps are scored; those that are not count as agreed where they are equal.
            is_whole: as for `score`.

        """
        tries = self._steps.tries or max((num for _, num in parents), default=0)

        async def grow(some: Sequence[tuple[Node, int]], first: int | None) -> list[list[Node]]:
            grown = await self.grow(some, first=first)
            if is_scored:
                await self.score([child for group in grown for child in group], is_whole=is_whole)
            return grown

        grown = await grow([(node, min(num, tries)) for node, num in parents], first)
        undecided = [
            number for number, group in enumerate(grown) if parents[number][1] > tries and not self._have_agreed(group)
        ]
        others = [(parents[number][0], parents[number][1] - tries) for number in undecided]
        for number, group in zip(undecided, await grow(others, None if first is None else first + tries), strict=True):
            grown[number] += group
        return grown

    def _have_agreed(self, nodes: Sequence[Node]) -> bool:
        is_believed = all(node.score is None or node.score >= AGREED for node in nodes)
        return is_believed and len({self._state(node) for node in nodes}) == 1

    def graft(self, node: Node, thoughts: Iterable[str]) -> list[Node]:
        """Return children with texts that were written elsewhere, such as proposals; not attached yet."""
        return [self._child(node, Candidate(self.reserve(1), text, self.task.encode(text), "step")) for text in thoughts]

    def attach(self, nodes: Iterable[Node]) -> None:
        """Make nodes part of the tree, in the given order, which must not depend on which node was ready first.

        If the verifier is exact, an answer that it proves is remembered, and a step that it refutes is not continued.
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
        """Score the last step of each node, or the whole path; what is equal token for token is scored once.

        The score is the node's value too, until a search changes that.
        """
        keys = [(node.path.text, node.path.token_ids, node.path.finish_reason) for node in nodes]
        paths: dict[Any, Candidate] = {}
        for key, node in zip(keys, nodes, strict=True):
            paths.setdefault(key, replace(node.path, step_start=0, last_step="") if is_whole else node.path)
        scores = dict(zip(paths, await self.scorer.score(list(paths.values())), strict=True))
        for key, node in zip(keys, nodes, strict=True):
            node.score = node.value = scores[key]

    async def complete(self, num: int) -> None:
        """Where a search stopped before any answer was whole, draw `num` completions of the best path."""
        open_nodes = [node for node in self._leaves() if node.is_open]
        if self.finals or self.is_over or not open_nodes:
            return
        best = min(open_nodes, key=lambda node: node.rank)
        [answers] = await self.grow([(best, num)], is_last=True)
        await self.score(answers)
        self.attach(answers)
        self.report(f"Finished step {best.depth + 1} and what follows", answers)

    def drop_duplicates(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the nodes in distinct states, the first of equals; mark the others as duplicates."""
        return list(dict.fromkeys(self.merge(nodes)))

    def merge(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the nodes with the first of equals in place of each of them; mark the others as duplicates."""
        first: dict[tuple[str, bool], Node] = {}
        merged = []
        for node in nodes:
            merged.append(first.setdefault(self._state(node), node))
            if merged[-1] is not node:
                node.state = NodeState.DUPLICATE
        return merged

    def _state(self, node: Node) -> tuple[str, bool]:
        return self.scorer.state(node.path), node.path.is_complete

    def keep(self, nodes: Iterable[Node], num: int) -> list[Node]:
        """Return the `num` nodes of the highest values, the first of equals; mark the others as pruned."""
        ranked = sorted(nodes, key=lambda node: node.rank)
        for node in ranked[num:]:
            node.state = NodeState.PRUNED
        return ranked[:num]

    def report_round(self, open_nodes: Sequence[Node], new: Iterable[Node]) -> None:
        """Report a round: its depth, how many nodes are continued, how many answers there are, and the best node so far."""
        leader = min(open_nodes or self.finals or [self.root], key=lambda node: node.rank)
        best = f"best value {leader.value or 0.0:.2f}: {opening_words(leader.text)}"
        self.report(f"Step {leader.depth}: {len(open_nodes)} go on, {self.num_finals} answers; {best}", new)

    def report(self, text: str, nodes: Iterable[Node] = ()) -> None:
        """Report a line of progress with the nodes that are new or have changed."""
        self._emit(Progress(text, tuple(node.trace() for node in nodes)))

    async def result(
        self,
        context: StrategyContext,
        otherwise: StopReason,
        *,
        select: Select,
        scores: Mapping[int, float] | None = None,
        preferred: Collection[int] = (),
    ) -> Result:
        """Choose among the whole answers, or among the leaves where none is whole yet, so that there always is a best so far.

        Args:
            context: of the strategy.
            otherwise: the stop reason where neither a proof nor a budget ended the search.
            select: how whole answers are chosen.
            scores: by id; by default the nodes' own.
            preferred: ids that come before all others that are whole.

        """
        scores = scores if scores is not None else {node.id: node.score or 0.0 for node in self.nodes}
        if self.proven is not None:
            select, preferred = "score", {self.proven.id}
        finals = self.finals
        answers = finals or self._leaves()
        paths = [node.path for node in answers]
        chosen, scored = await choose(
            self.task, paths, scores, context.equivalence, select if finals else "score", preferred=preferred
        )
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

    def _leaves(self) -> list[Node]:
        """Return the nodes that nothing follows, except refuted steps; all leaves where everything is refuted."""
        nodes = [node for node in self.nodes if not self._is_refuted(node)] or self.nodes
        known = set(nodes)
        return [node for node in nodes if known.isdisjoint(node.children)]

    def _is_refuted(self, node: Node) -> bool:
        return self.scorer.is_exact and node.score == 0

    async def _draw(self, node: Node, num: int, first: int, *, is_last: bool) -> list[Node]:
        prefix = (*self.task.prefix, *node.path.token_ids)
        step = Step() if is_last or node.depth + 1 >= self._steps.depth else self._steps.behind(len(prefix))
        draw = Draw(
            prefix,
            num,
            first_index=first,
            num_logprobs=self.scorer.num_logprobs,
            step=step,
            temperature=self._steps.first_temperature if node is self.root else None,
            ends_loops=self.task.ends_loops,
        )
        async with self.model.sample(draw) as samples:
            drawn = [candidate async for candidate in samples]
        drawn.sort(key=lambda candidate: candidate.index)
        return [self._child(node, one) for one in drawn]

    def _child(self, parent: Node, step: Candidate) -> Node:
        path, thinking = parent.path, self.task.thinking
        text, token_ids = path.text + step.text, path.token_ids + step.token_ids
        has_looped = step.finish_reason == "step" and self.task.ends_loops and ends_in_loop(token_ids)
        joined = replace(
            step,
            text=text,
            token_ids=token_ids,
            finish_reason="repetition" if has_looped else step.finish_reason,
            logprobs=path.logprobs + step.logprobs,
            step_start=len(path.token_ids),
            last_step=step.text,
            num_inserted=path.num_inserted + step.num_inserted,
            is_thinking_cut=path.is_thinking_cut or step.is_thinking_cut,
            num_thinking=path.num_thinking + step.num_thinking,
            is_thinking=thinking is not None and thinking.is_inside(text),
        )
        return Node(joined, parent, parent.depth + 1)
