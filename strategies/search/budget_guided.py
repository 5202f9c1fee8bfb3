"""Monte Carlo tree search that widens early and finishes answers as its token budget goes.

The rule of selection is BG-MCTS (Miyamoto et al. 2026, arXiv 2602.09574, and its code), with the authors' weights of 1. With rho, the share
of the budget that is left, a child is worth

    mean of [score + (1 - rho) depth / answer depth] over its subtree + c rho P sqrt(ln N_parent / N),

and a new child of a node is worth the mean of its children's scores + rho times their variance. From the root on the best child is followed
until a new child is worth as much. So exploration and late branching fade, and depth gains, as the budget goes.

Two things are ours. Several expansions are under way at once, kept apart as in `MctsRun`. And the last quarter of the budget expands
nothing: it completes the best open nodes, so that the search never ends without answers while there are tokens for one.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from strategies.core.verifier import StrategyContext
from strategies.search.mcts_run import MAX_NODES, MctsParams, MctsRun
from strategies.search.node import Node, upwards
from strategies.search.tree import Tree
from strategies.search.uct import budget_puct, priors, worth_of_new_child

FINISHING = 0.25
"""Share of the budget that is kept for completing answers."""


class BudgetGuidedRun(MctsRun):
    """A tree whose selection depends on the share of the budget that the nodes of the tree have spent."""

    def __init__(self, params: MctsParams, tree: Tree, context: StrategyContext) -> None:
        super().__init__(params, tree, context)
        own = params.tokens or params.iterations * params.expand * params.step_tokens
        left = tree.model.tokens_left
        self._budget = max(own if left is None else min(own, left), 1)
        self._subtree_depths: Counter[Node] = Counter()
        """Sums of the depths of the nodes that were backed up through a node, as its `visits` and `total` are of these."""
        self._num_tokens = self._greatest_depth = self._sum_of_answer_depths = self._sum_of_answer_tokens = 0

    @property
    def num_iterations(self) -> int:
        """As many as the budget allows: a bound that no tree exceeds."""
        return MAX_NODES

    @property
    def spent(self) -> float:
        """The share of the budget that the tree has generated, 0 to 1. It does not depend on which branch is ready first."""
        return min(self._num_tokens / self._budget, 1.0)

    def num_children(self, node: Node) -> int:
        """Return `expand` for a node without children, and 1 for one that has some: widening is one child at a time."""
        return 1 if node.children else self._params.expand

    def select(self) -> Node | None:
        """Return the node to expand next; None where the rest of the budget is to complete answers."""
        num = (1 + self._under_way.total()) * self._params.expand
        is_too_large = len(self._tree.nodes) + num * (1 + self._params.rollouts) > MAX_NODES
        if is_too_large or self._num_tokens + num * self._params.step_tokens > (1 - FINISHING) * self._budget:
            return None
        return super().select()

    def _find(self, node: Node) -> Node | None:
        """Return the node at which a new child is worth at least as much as any child; None for a leaf that is under way already."""
        if not node.children:
            return node if self._may_expand(node) else None
        children = [child for child in node.children if self._can_grow(child)]
        worths = dict(zip(children, self._urgencies(node, children), strict=True))
        scores = [self._score(child) for child in node.children if not child.is_rollout]
        best = min(children, key=lambda child: (-worths[child], child.id), default=None)
        if best is None or worth_of_new_child(scores, self.spent) >= worths[best]:
            return node
        return self._find(best)

    def _can_grow(self, node: Node) -> bool:
        return node.is_open and not node.is_rollout and (bool(node.children) or self._may_expand(node))

    def _score(self, node: Node) -> float:
        return node.score if node.score is not None else self._total(node) / max(node.visits, 1)

    def _urgencies(self, parent: Node, children: Sequence[Node]) -> list[float]:
        """Return what each child is worth. Pending visits count with value 0, so that workers spread over the tree."""
        shares = priors([self._score(child) for child in children])
        depth, spent = self._answer_depth(), self.spent
        worths = []
        for child, share in zip(children, shares, strict=True):
            visits = max(child.visits + child.pending, 1)
            worths.append(
                budget_puct(
                    self._total(child) / visits,
                    self._subtree_depths[child] / depth / visits,
                    visits,
                    parent.visits + parent.pending,
                    exploration=self._params.exploration,
                    prior=share,
                    spent=spent,
                )
            )
        return worths

    def _answer_depth(self) -> float:
        """Return the mean depth of whole answers, or while there are none the greatest depth so far."""
        num = self._tree.num_finals
        return self._sum_of_answer_depths / num if num else max(self._greatest_depth, 1)

    async def back_up(self, node: Node, children: Sequence[Node], rollouts: Sequence[Node]) -> None:
        """Count what was drawn, and back it up."""
        for new in (*children, *rollouts):
            self._num_tokens += len(new.path.token_ids) - new.path.step_start
            self._greatest_depth = max(self._greatest_depth, new.depth)
            if new.path.is_complete:
                self._sum_of_answer_depths += new.depth
                self._sum_of_answer_tokens += len(new.path.token_ids)
        await super().back_up(node, children, rollouts)

    def _visit(self, node: Node) -> None:
        super()._visit(node)
        for ancestor in upwards(node):
            self._subtree_depths[ancestor] += node.depth

    async def finish(self) -> None:
        """Complete the best open leaves with what is left of the budget, each once before any twice; at least until there is an answer."""
        tree, num_completions = self._tree, Counter[Node]()
        leaves = [node for node in tree.nodes if node.is_open and not node.is_rollout and not _is_continued(node)] or [
            tree.root
        ]
        width = self._params.workers * self._params.expand
        while not tree.is_over and len(tree.nodes) < MAX_NODES and (self._num_tokens < self._budget or not tree.num_finals):
            ranked = sorted(leaves, key=lambda node: (num_completions[node], node.rank))
            chosen = ranked[: min(self._num_affordable(ranked), width)]
            grown = await tree.grow([(node, 1) for node in chosen], is_last=True)
            answers = [answer for group in grown for answer in group]
            if not answers:
                break
            await self.score_answers(answers)
            for node, group in zip(chosen, grown, strict=True):
                num_completions[node] += 1
                self.begin(node)
                await self.back_up(node, group, ())
        await super().finish()

    def _num_affordable(self, ranked: Sequence[Node]) -> int:
        """Return how many answers the rest of the budget completes, by the mean length of those that there are; at least one."""
        if not self._tree.num_finals:
            return 1
        mean = self._sum_of_answer_tokens / self._tree.num_finals
        costs = accumulate(max(mean - len(node.path.token_ids), 1) for node in ranked)
        return max(sum(cost <= self._budget - self._num_tokens for cost in costs), 1)


def _is_continued(node: Node) -> bool:
    """Return whether a further step follows; answers that were completed from a node are none."""
    return any(child.path.finish_reason == "step" for child in node.children)
