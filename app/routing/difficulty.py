"""What an estimator says about a question."""

from dataclasses import dataclass
from typing import Literal

Estimated = Literal["general", "calibrated"]
"""Which estimator spoke: the one for all models, or the one that was calibrated for the model that answers."""

EDGES = (0.2, 0.4, 0.6, 0.8)
"""The difficulties between the bins of the general estimator."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """The estimated probability that the first answer to a question is wrong.

    Attributes:
        probability: 0 to 1.
        low: the lower end of the interval that holds the probability in nine of ten cases, as the estimator is uncertain of itself.
        high: its upper end.
        estimator: which one spoke.

    """

    probability: float
    low: float
    high: float
    estimator: Estimated
