"""What an estimator says about a question."""

from dataclasses import dataclass, replace
from typing import Literal

from app.routing.learning.lesson import Lesson, moved

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
        lesson: what the request may teach, and how its estimates were corrected; None where nothing is learned.

    """

    probability: float
    low: float
    high: float
    estimator: Estimated
    lesson: Lesson | None = None

    def corrected(self, lesson: Lesson) -> "Difficulty":
        """Return the difficulty with the correction that its lesson begins with."""
        low, probability, high = (moved(one, lesson.before_shift) for one in (self.low, self.probability, self.high))
        return replace(self, probability=probability, low=low, high=high, lesson=lesson)
