"""Each effort has a price, and the default effort does not tax the questions that one answer settles."""

import numpy as np
import pytest

from app.lab.calibration.cross_validation import CrossValidation, StoppedTrajectory
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.policy_choices import prices_of_efforts
from app.lab.calibration.pooled_questions import ReplayOutcome
from app.request import Effort
from strategies.core.values import AnswerKind, StopReason

DIRECT = 1000
COSTS = {0.1: (1000, 1200), 0.07: (1100, 1700), 0.05: (1190, 2200), 0.03: (1300, 3000), 0.02: (1500, 4000)}
"""By price: the FLOPs of an easy question, and of a hard one."""

ACCURACIES = {0.1: 0.5, 0.07: 0.55, 0.05: 0.6, 0.03: 0.65, 0.02: 0.7}


def outcomes(difficulties: list[float]) -> tuple[CrossValidation, list[ObservedQuestion]]:
    stopped = {
        price: [[StoppedTrajectory(ACCURACIES[price], costs[one >= 0.2], 1, one, one)] for one in difficulties]
        for price, costs in COSTS.items()
    }
    direct = ReplayOutcome(0.5, DIRECT, 0, 20, 1, StopReason.COMPLETED)
    observed = [ObservedQuestion("", "t", 1, AnswerKind.MATH, direct, ()) for _ in difficulties]
    return CrossValidation(np.zeros(len(difficulties), dtype=int), np.array(difficulties), stopped), observed


@pytest.mark.parametrize(
    ("difficulties", "medium"),
    [
        pytest.param([0.1] * 5 + [0.8] * 5, 0.07, id="easy questions make medium effort dearer than the mean of the others"),
        pytest.param([0.8] * 10, 0.05, id="without easy questions it is the mean of the others"),
    ],
)
def test_medium_effort_costs_easy_questions_little(difficulties: list[float], medium: float) -> None:
    prices = prices_of_efforts(*outcomes(difficulties), target_accuracy=0.7, target_flops=2e4)
    assert prices == {Effort.LOW: 0.1, Effort.MEDIUM: medium, Effort.HIGH: 0.02}
