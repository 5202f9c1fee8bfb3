"""The rules by which a tree search selects the next node, as pure functions.

UCT is used by RAP, rStar and LATS, PUCT by AlphaZero and its descendants.
"""

import math
import statistics
from collections.abc import Sequence


def uct(mean: float, visits: int, parent_visits: int, exploration: float) -> float:
    """Return UCT = Q/N + c sqrt(ln N_parent / N) (Kocsis and Szepesvari 2006); infinity for a child without visits.

    Args:
        mean: Q/N, the mean of the child's values, in [0, 1].
        visits: N, including those under way, which count with value 0 (virtual loss).
        parent_visits: N_parent, counted likewise.
        exploration: c; sqrt 2 suits values in [0, 1].

    """
    if visits == 0:
        return math.inf
    return mean + exploration * math.sqrt(math.log(max(parent_visits, 1)) / visits)


def puct(mean: float, visits: int, parent_visits: int, exploration: float, prior: float) -> float:
    """Return PUCT = Q/N + c P sqrt(N_parent) / (1 + N) (Silver et al. 2017, arXiv 1712.01815).

    Args:
        mean: as for `uct`, and so are `visits`, `parent_visits` and `exploration`.
        visits: N.
        parent_visits: N_parent.
        exploration: c.
        prior: P, the probability of the child among its siblings.

    """
    return mean + exploration * prior * math.sqrt(parent_visits) / (1 + visits)


def budget_puct(
    mean: float, mean_depth: float, visits: int, parent_visits: int, *, exploration: float, prior: float, spent: float
) -> float:
    """Return mean + s d + c (1 - s) P sqrt(ln N_parent / N), BG-MCTS's worth of a child (Miyamoto et al. 2026, arXiv 2602.09574).

    Args:
        mean: as for `uct`, over the child and all nodes beneath it, and so are `visits`, `parent_visits` and `exploration`.
        mean_depth: d, the mean depth of these nodes, divided by the depth of answers.
        visits: N.
        parent_visits: N_parent.
        exploration: c.
        prior: P, the softmax of the child's score among its siblings'.
        spent: s, the share of the budget that is spent, 0 to 1.

    """
    bonus = exploration * (1 - spent) * prior * math.sqrt(math.log(max(parent_visits, 1)) / visits)
    return mean + spent * mean_depth + bonus


def worth_of_new_child(scores: Sequence[float], spent: float) -> float:
    """Return mean + (1 - s) variance of the scores of the children that there are, BG-MCTS's worth of another one."""
    return statistics.fmean(scores) + (1 - spent) * statistics.pvariance(scores)


def priors(logprobs: Sequence[float]) -> list[float]:
    """Return the softmax of the mean log-probabilities of sibling steps; equal shares if none of them has any.

    Means by length, so that a short step is not preferred only because it is short.
    """
    highest = max(logprobs, default=0.0)
    if math.isinf(highest):
        return [1 / len(logprobs)] * len(logprobs)
    weights = [math.exp(logprob - highest) for logprob in logprobs]
    return [weight / sum(weights) for weight in weights]
