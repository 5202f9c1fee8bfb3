"""The interval of a share, and a test whether one of two runs on the same questions is better."""

from collections.abc import Sequence
from math import comb, sqrt

Z95 = 1.959964


def wilson(num_right: int, total: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    share, square = num_right / total, Z95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = Z95 / (1 + square / total) * sqrt(share * (1 - share) / total + square / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def compared(pairs: Sequence[tuple[bool, bool]]) -> tuple[int, int, float]:
    """Compare two runs by whether each is right, question by question.

    Returns:
        How many questions the first run alone answered rightly, how many the second alone, and the exact p of McNemar's test.

    """
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    return won, lost, mcnemar(won, lost)


def mcnemar(won: int, lost: int) -> float:
    """Return the exact two-sided p-value (McNemar 1947).

    It is the probability that a fair coin is at least as one-sided as the questions that only one of the runs answered rightly.
    """
    total = won + lost
    tail = sum(comb(total, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**total)
