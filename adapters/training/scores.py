"""How well scores separate right answers from wrong ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def auroc(scores: Sequence[float] | NDArray[np.float64], is_right: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, 0 to 1.

    It is the share of pairs of a right and a wrong answer in which the right one scores higher, a tie counting half,
    and is computed from ranks (the Mann-Whitney U statistic). NaN when one of the two kinds is missing.

    Args:
        scores: of the answers; only their order matters.
        is_right: of the answers, equally long.

    """
    values, right = np.asarray(scores, dtype=float), np.asarray(is_right, dtype=bool)
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    if not num_right or not num_wrong:
        return float("nan")
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # equal scores share the mean of their ranks
    return float((ranks[right].sum() - num_right * (num_right + 1) / 2) / (num_right * num_wrong))
