"""How well scores tell what is true from what is not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def auroc(scores: Sequence[float] | NDArray[np.float64], is_right: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Share of pairs of a right and a wrong answer in which the right one scores higher, a tie counting half; nan without pairs."""
    values, right = np.asarray(scores, dtype=float), np.asarray(is_right, dtype=bool)
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    if not num_right or not num_wrong:
        return float("nan")
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # of equal scores the mean
    return float((ranks[right].sum() - num_right * (num_right + 1) / 2) / (num_right * num_wrong))
