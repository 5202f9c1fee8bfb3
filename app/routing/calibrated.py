"""The policy of a model that was calibrated: it estimates the difficulty of a prompt and chooses a plan for it."""

from bisect import bisect_right
from dataclasses import replace

from app.request import Effort
from app.routing.features import prompt_features
from app.routing.policy import BUSY_LOAD, ExpectedCost, Plan, Query
from app.routing.policy_file import Bin, PolicyFile, auto_label
from app.routing.value_of_computation import ValueOfComputationRule
from strategies.core.thinking import ExitThreshold
from strategies.core.values import AnswerKind

MAX_PRICE_MULTIPLIER = 8.0
"""What the price of compute is multiplied by at full load. The multiplier begins to rise at `BUSY_LOAD`."""


class CalibratedPolicy:
    """Plans requests with what `ponder calibrate` measured.

    It plans only for the kinds of answers that were measured.
    """

    def __init__(self, file: PolicyFile) -> None:
        self.file = file

    def difficulty(self, query: Query) -> tuple[float, int] | None:
        """Estimate the probability, 0 to 1, that the first answer is wrong.

        Returns:
            The probability and its bin, counted from 1, or None for a kind of answer that was not measured.

        """
        if query.kind not in self.file.kinds:
            return None
        difficulty = self.file.prompt_difficulty(prompt_features(query.question))
        return difficulty, bisect_right(self.file.edges, difficulty) + 1

    def exits(self, kind: AnswerKind) -> tuple[ExitThreshold, ...]:
        """Return the thresholds of early exits; none for a kind of answer that was not measured."""
        return self.file.exits.for_strategies() if self.file.exits is not None and kind in self.file.kinds else ()

    def plan(self, query: Query) -> Plan | None:
        """Return a plan with its stopping rule and its difficulty, or None for a kind of answer that was not measured."""
        file = self.file
        if (estimate := self.difficulty(query)) is None:
            return None
        difficulty, number = estimate
        multiplier = _price_multiplier(query.load)
        chosen_bin = file.bins[number - 1]
        strategy = chosen_bin.plans[query.effort]
        why = f"difficulty {difficulty:.2f}, bin {number} of {len(file.bins)}, {query.effort} effort (calibrated)"
        if multiplier > 1:
            why += f"; the server is busy, compute costs {multiplier:.1f} times as much"
        plan = Plan(
            strategy, why=why, is_calibrated=True, difficulty=difficulty, bin=number,
            alternatives=chosen_bin.measured, expected=_expected_cost(chosen_bin, query.effort),
        )  # fmt: skip
        if strategy == "direct":
            # the bin was measured with greedy answers, so the plan asks for one
            return replace(plan, temperature=0.0)
        rule = ValueOfComputationRule(file, difficulty, file.prices[query.effort] * multiplier)
        params = {"n": file.stages[-1].answers, "attempts": file.attempts}
        return replace(plan, params=params, rule=rule, temperature=file.temperature)


def _price_multiplier(load: float) -> float:
    """Return the multiplier: 1 up to `BUSY_LOAD`, then rising exponentially to `MAX_PRICE_MULTIPLIER` at a load of 1."""
    return float(MAX_PRICE_MULTIPLIER ** (max(load - BUSY_LOAD, 0.0) / (1 - BUSY_LOAD)))


def _expected_cost(chosen_bin: Bin, effort: Effort) -> ExpectedCost | None:
    by_plan = {one.plan: one for one in chosen_bin.measured}
    direct, auto = by_plan.get("direct"), by_plan.get(auto_label(effort))
    return None if direct is None or auto is None else ExpectedCost(auto.branches, auto.flops / direct.flops)
