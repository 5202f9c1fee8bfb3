"""What a policy may lose at each price: the part of a policy file that `ponder.risk` reads.

Conformal risk control (Angelopoulos et al. 2022, arXiv:2208.02814): where n questions are exchangeable with the next one, and the loss
L_i(price) of each is at most 1 and does not fall as the price rises, the expected loss on the next question at the dearest price with

    n / (n + 1) * mean of L_i(price) + 1 / (n + 1) <= risk

is at most the risk. Here the loss is the accuracy of the best fixed plan less that of the policy, in [-1, 1], on questions that the
policy was not fitted to.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from app.lab.calibration.cross_validation import CrossValidation
from app.lab.calibration.fixed_plans import SIZES, STRATEGIES_BY_NAME, FixedPlan
from app.lab.calibration.performance import Numbers, PlanPerformance
from app.routing.policy_file import Risk, RiskPoint


def losses(validation: CrossValidation, best: PlanPerformance) -> dict[float, Numbers]:
    """Return for each price, cheapest first, the (questions,) losses, which do not fall as the price rises.

    At a price a question's loss is the largest at this price and all below it.
    """
    found: dict[float, Numbers] = {}
    largest = np.full(len(best.accuracy), -1.0)
    for price in sorted(validation.stopped):
        accuracy = np.array([np.mean([one.right for one in each]) for each in validation.stopped[price]])
        largest = np.maximum(largest, best.accuracy - accuracy)
        found[price] = largest
    return found


def bound(found: Numbers) -> float:
    """Return the bound of conformal risk control on the expected loss, from (questions,) losses of at most 1."""
    num = len(found)
    return float((num * found.mean() + 1) / (num + 1))


def risk_of(validation: CrossValidation, fixed: Sequence[PlanPerformance], unit: float, attempts: int) -> Risk | None:
    """Return what the policy may lose at each price; None where outcomes are only estimated, or where no fixed plan can be served.

    Args:
        validation: the outcomes at all prices.
        fixed: the performance of the fixed plans on the same questions.
        unit: the FLOPs of a direct answer, in which prices are counted.
        attempts: how often an answer may be begun or continued, at most.

    """
    is_known = all(one.right in (0, 1) for each in validation.stopped.values() for order in each for one in order)
    plans = _servable(attempts)
    best = max((one for one in fixed if one.label in plans), key=lambda one: (one.mean, -one.gflops), default=None)
    if best is None or not is_known:
        return None
    strategy, params = plans[best.label]
    points = [
        RiskPoint(price=price / unit, loss=float(found.mean()), bound=bound(found))
        for price, found in losses(validation, best).items()
    ]
    return Risk(
        plan=best.label, strategy=strategy, params=dict(params), questions=len(best.accuracy), points=tuple(points[::-1])
    )


def _servable(attempts: int) -> Mapping[str, tuple[str, Mapping[str, object]]]:
    """Return strategy and parameters of the fixed plans that need no verifier of the pool, by their labels."""
    found: dict[str, tuple[str, Mapping[str, object]]] = {FixedPlan("direct", 1).label: ("direct", {})}
    for name, (strategy, params) in STRATEGIES_BY_NAME.items():
        if isinstance(params.get("verifier"), dict):
            continue
        own = {**params, **({"attempts": attempts} if strategy == "backtracking" else {})}
        found |= {FixedPlan(name, n).label: (strategy, {**own, "n": n}) for n in SIZES}
    return found
