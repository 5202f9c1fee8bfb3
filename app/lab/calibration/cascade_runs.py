"""The runs of the members of a cascade, to which it is fitted: what each does on a question with its own policy.

A run ends where the member's stopping rule ends it. Everything is charged with the member's own arithmetic, its prompt included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.calibration.cross_validation import StoppedTrajectory, cross_validate, direct_flops
from app.lab.calibration.observed_questions import ObservedQuestion

PRICES = (2.0, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.003)
"""The prices that are tried, as the accuracy that the FLOPs of one greedy answer of the dearest member must gain."""

Runs = Mapping[float, Sequence[Sequence[StoppedTrajectory]]]
"""By the price of a FLOP, the (questions, orders) runs of a member."""


@dataclass(frozen=True, slots=True)
class MeasuredMember:
    """A member with its questions.

    Attributes:
        fields: `model`, `adapter` and `architecture` of `CascadeMember`.
        observed: the questions, the same and in the same order for all members.

    """

    fields: Mapping[str, Any]
    observed: Sequence[ObservedQuestion]

    def of(self, places: NDArray[np.int_]) -> "MeasuredMember":
        """Return the member with the questions at some places."""
        return MeasuredMember(self.fields, [self.observed[place] for place in places])


def prices_per_flop(members: Sequence[MeasuredMember]) -> list[float]:
    """Return `PRICES` as the accuracy that a FLOP must gain."""
    unit = max(direct_flops(one.observed) for one in members)
    return [price / unit for price in PRICES]


def held_out_runs(observed: Sequence[ObservedQuestion], prices: Sequence[float]) -> Runs:
    """Return the runs of a member with policies that were fitted to other questions."""
    unit = direct_flops(observed)
    stopped = cross_validate(observed, [price * unit for price in prices]).stopped.values()
    return dict(zip(prices, stopped, strict=True))
