"""What may be lost at a price is bounded on questions that nothing was chosen by, and no more is promised than is known."""

import numpy as np
import pytest

from app.lab.calibration.cross_validation import CrossValidation, StoppedTrajectory
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.risk import bound, losses, risk_of

PRICES = (0.5, 0.1, 0.01)


def validation(accuracies: dict[float, list[float]]) -> CrossValidation:
    """Outcomes of one order for each question."""
    num = len(next(iter(accuracies.values())))
    stopped = {price: [[StoppedTrajectory(one, 1, 1, 0.5, 0.5)] for one in each] for price, each in accuracies.items()}
    return CrossValidation(np.zeros(num, dtype=int), np.zeros(num), stopped)


def plan(label: str, accuracy: list[float]) -> PlanPerformance:
    num = len(accuracy)
    return PlanPerformance(label, np.array(accuracy), np.ones(num), np.ones(num), 4)


def test_the_loss_of_a_question_does_not_fall_as_the_price_rises() -> None:
    """Where a dearer price happens to be right and a cheaper one is wrong, the loss of the cheaper one counts at both."""
    outcomes = validation({0.5: [1.0, 0.0], 0.1: [0.0, 0.0], 0.01: [1.0, 1.0]})
    found = losses(outcomes, plan("direct", [1.0, 1.0]))
    assert {price: each.tolist() for price, each in found.items()} == {0.01: [0, 0], 0.1: [1, 1], 0.5: [1, 1]}


@pytest.mark.parametrize("risk", [0.02, 0.05, 0.1])
def test_the_risk_holds_on_questions_that_the_price_was_not_chosen_by(risk: float) -> None:
    """On average over repeated draws: the price is chosen on some questions, and the loss is that of others."""
    chance = np.random.default_rng(0)
    shares = np.linspace(-0.02, 0.3, 40)  # of the questions that a price loses, cheapest price first
    realised = []
    for _ in range(2000):
        drawn = chance.random(60)
        found = [(drawn < share).astype(float) - (share <= 0) * 0.02 for share in shares]
        chosen = [share for share, one in zip(shares, found, strict=True) if bound(one) <= risk]
        # where no price holds the risk, the best fixed plan answers, which loses nothing
        realised.append(max(chosen[-1], 0.0) if chosen else 0.0)
    assert np.mean(realised) <= risk + 0.003


def test_a_policy_that_loses_nothing_holds_no_smaller_risk_than_its_questions_can_show() -> None:
    """With n questions nothing below 1 / (n + 1) can be promised."""
    outcomes = validation(dict.fromkeys(PRICES, [1.0] * 99))
    part = risk_of(outcomes, [plan("direct", [1.0] * 99)], unit=10.0, attempts=3)
    assert part.dearest_within(0.01).price == pytest.approx(0.05)
    assert part.dearest_within(0.009) is None
    assert (part.plan, part.strategy, part.questions) == ("direct", "direct", 99)


def test_the_best_plan_that_can_be_served_is_the_measure() -> None:
    """A plan with a verifier that only the pool has cannot be served."""
    outcomes = validation({price: [1.0, 0.0] for price in PRICES})
    plans = [plan("direct", [0.0, 0.0]), plan("backtracking n=4", [1.0, 0.0]), plan("best_of_n, verifier n=4", [1.0, 1.0])]
    part = risk_of(outcomes, plans, unit=1.0, attempts=3)
    assert (part.strategy, part.params) == ("backtracking", {"attempts": 3, "n": 4})


def test_nothing_is_promised_where_outcomes_are_only_estimated() -> None:
    outcomes = validation({price: [0.7, 0.2] for price in PRICES})
    assert risk_of(outcomes, [plan("direct", [1.0, 0.0])], unit=1.0, attempts=1) is None
