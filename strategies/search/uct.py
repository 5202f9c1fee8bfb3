"""What a tree search goes by when it chooses where to look next. Pure functions; FIELD A7 has who uses which."""

import math
from collections.abc import Sequence


def uct(mean: float, visits: int, parent_visits: int, exploration: float) -> float:
    """UCT = Q/N + c sqrt(ln N_parent / N) (Kocsis and Szepesvari 2006); a child without visits comes first.

    Args:
        mean: of the values that the child brought, in [0, 1].
        visits: of the child; those under way included, which count as value 0 (virtual loss).
        parent_visits: of its parent, likewise.
        exploration: c; sqrt 2 for values in [0, 1].

    """
    if visits == 0:
        return math.inf
    return mean + exploration * math.sqrt(math.log(max(parent_visits, 1)) / visits)


def puct(mean: float, visits: int, parent_visits: int, exploration: float, prior: float) -> float:
    """PUCT = Q/N + c P sqrt(N_parent) / (1 + N) (Silver et al. 2017), P being the child's prior probability among its siblings."""
    return mean + exploration * prior * math.sqrt(parent_visits) / (1 + visits)


def priors(logprobs: Sequence[float]) -> list[float]:
    """Softmax of the mean log-probabilities of sibling steps: by length, so that a short step is not preferred as such."""
    highest = max(logprobs, default=0.0)
    if math.isinf(highest):
        return [1 / len(logprobs)] * len(logprobs)
    weights = [math.exp(logprob - highest) for logprob in logprobs]
    return [weight / sum(weights) for weight in weights]
