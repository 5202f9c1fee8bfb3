"""Speculative rejection (Sun et al. 2024, arXiv 2410.20290): the worst partial answers are ended while all of them are written.

Answers begin together and are written in waves. After each wave all that are left are scored as far as they have come, those that have
ended too. The worst share of them is rejected, and the others go on from their cached prefixes. An answer that has ended stays a candidate
when it is rejected, because it is paid for. Its rank only makes room for others, or takes it from them.
"""

from dataclasses import dataclass

from strategies.core.results import NodeState
from strategies.search.node import Node
from strategies.search.tree import Tree


@dataclass(frozen=True, slots=True)
class Rejection:
    """How many of the answers that are left go on after a wave.

    Attributes:
        share: of them that is rejected, in (0, 1), rounded down.
        least: never fewer than so many go on, since the caller wants as many answers.

    """

    share: float
    least: int = 1

    def num_kept(self, num: int) -> int:
        """Return how many of `num` answers go on. Where it is all of them, no later wave rejects any either."""
        return max(num - int(num * self.share), min(num, self.least))

    def waves(self, n: int, wave_tokens: int, answer_tokens: int) -> list[tuple[int, int]]:
        """Return how many answers each wave continues, and by how many tokens, for n answers that all have `answer_tokens`."""
        waves: list[tuple[int, int]] = []
        left = answer_tokens
        while left > 0 or not waves:
            kept = self.num_kept(n)
            size = left if kept == n else min(wave_tokens, left)
            waves.append((n, size))
            n, left = kept, left - size
        return waves


async def grow_rejecting(tree: Tree, n: int, rejection: Rejection) -> list[Node]:
    """Grow n answers and reject the worst after each wave, until all that are left have ended.

    Ties go to the answer that was asked for first. Returns the partial answers that nothing has rejected: those that the budget, or their
    length, has ended.
    """
    parents, ended, partial = [(tree.root, n)], list[Node](), list[Node]()
    while parents and not tree.is_over:
        num_left = sum(num for _, num in parents) + len(ended)
        grown = await tree.grow(parents, is_last=rejection.num_kept(num_left) == num_left)
        children = [child for group in grown for child in group]
        num_failures = len(tree.scorer.notes)
        await tree.score(children, is_whole=True)
        if len(tree.scorer.notes) > num_failures:  # likelihood scores from now on, also what is compared with them
            await tree.score(tree.finals, is_whole=True)
        tree.attach(children)
        ranked = sorted((*ended, *(one for one in children if one.is_open or one.path.is_complete)), key=lambda node: node.rank)
        num_kept = rejection.num_kept(len(ranked))
        tree.keep((node for node in ranked[num_kept:] if node.is_open), 0)
        ended = [node for node in ranked[:num_kept] if not node.is_open]
        going_on = sorted((node for node in ranked[:num_kept] if node.is_open), key=lambda node: node.id)
        partial = [one for one in children if one.state is NodeState.OPEN and not one.path.is_complete] or partial
        parents = [(node, 1) for node in going_on]
        tree.report_round(going_on, children)
    return partial
