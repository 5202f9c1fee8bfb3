"""Two pieces of statistics: an interval for a share, and a test whether one of two runs on the same questions is better."""

from math import comb, sqrt

Z95 = 1.959964


def wilson(num_right: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    if not total:
        return 0.0, 1.0
    share, square = num_right / total, Z95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = Z95 / (1 + square / total) * sqrt(share * (1 - share) / total + square / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p-value: of the questions that only one of the runs answered, is a fair coin as one-sided?"""
    total = won + lost
    tail = sum(comb(total, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**total)
