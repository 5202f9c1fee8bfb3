"""The policy of a model that was calibrated: it estimates the difficulty of a prompt and chooses a plan for it."""

import math
from bisect import bisect_right
from dataclasses import replace

from app.request import Effort
from app.routing.difficulty import Difficulty
from app.routing.estimators import digest_of
from app.routing.features import evidence_features
from app.routing.policy import BUSY_LOAD, ExpectedCost, Plan, Query
from app.routing.policy_file import Bin, PolicyFile, Risk, auto_label
from app.routing.value_of_computation import ValueOfComputationRule, WaveEstimators
from strategies.core.thinking import ExitThreshold
from strategies.core.values import AnswerKind

MAX_PRICE_MULTIPLIER = 8.0
"""What the price of compute is multiplied by at full load. The multiplier begins to rise at `BUSY_LOAD`."""

Z_OF_INTERVAL = 1.645
"""Standard deviations to either end of an interval that holds nine of ten."""


class CalibratedPolicy:
    """Plans requests with what `ponder calibrate` measured.

    It plans only for the kinds of answers that were measured.

    Attributes:
        digest: of the numbers of its estimators.

    """

    def __init__(self, file: PolicyFile) -> None:
        self.file = file
        self._estimators = WaveEstimators(file.stages, evidence_features)
        self.digest = digest_of(file.prompt_difficulty, *file.stages)

    def difficulty(self, query: Query) -> Difficulty | None:
        """Estimate the difficulty of a question; None for a kind of answer that was not measured."""
        if query.kind not in self.file.kinds:
            return None
        probability = self.file.prompt_difficulty(query.reading.words)
        deviation = Z_OF_INTERVAL * math.sqrt(probability * (1 - probability) / self.file.questions_per_bin)
        low, high = max(probability - deviation, 0.0), min(probability + deviation, 1.0)
        return query.corrected(Difficulty(probability, low, high, "calibrated"), self.digest)

    def bin_of(self, difficulty: Difficulty) -> int:
        """Return the number of the bin, counted from 1."""
        return bisect_right(self.file.edges, difficulty.probability) + 1

    def exits(self, kind: AnswerKind) -> tuple[ExitThreshold, ...]:
        """Return the thresholds of early exits; none for a kind of answer that was not measured."""
        return self.file.exits.for_strategies() if self.file.exits is not None and kind in self.file.kinds else ()

    def plan(self, query: Query) -> Plan | None:
        """Return a plan with its stopping rule and its difficulty, or None for a kind of answer that was not measured."""
        file = self.file
        if (difficulty := self.difficulty(query)) is None:
            return None
        if query.risk is not None and file.risk is not None:
            return self._plan_within(query.risk, file.risk, difficulty)
        number = self.bin_of(difficulty)
        multiplier = price_multiplier(query.load)
        chosen_bin = file.bins[number - 1]
        # a cascade looks at the answer, and a direct one shows nothing
        is_looked_at = query.is_followed or query.price is not None
        strategy = "adaptive" if is_looked_at else chosen_bin.plans[query.effort]
        why = f"difficulty {difficulty.probability:.2f}, bin {number} of {len(file.bins)}, {query.effort} effort (calibrated)"
        if multiplier > 1:
            why += f"; the server is busy, compute costs {multiplier:.1f} times as much"
        plan = Plan(
            strategy, why=why, is_calibrated=True, difficulty=difficulty, bin=number,
            alternatives=chosen_bin.measured, expected=_expected_cost(chosen_bin, query.effort),
        )  # fmt: skip
        if strategy == "direct":
            # the bin was measured with greedy answers, so the plan asks for one
            return replace(plan, temperature=0.0)
        flop_price = file.prices[query.effort] if query.price is None else query.price
        price = flop_price * file.flops_per_token * multiplier
        rule = ValueOfComputationRule(self._estimators, difficulty.probability, price, difficulty.lesson)
        params = {"n": file.stages[-1].answers, "attempts": file.attempts}
        return replace(plan, params=params, rule=rule, temperature=file.temperature)

    def _plan_within(self, most: float, risk: Risk, difficulty: Difficulty) -> Plan:
        """Return the cheapest plan that is known to lose at most so much accuracy against the best fixed plan.

        It is the one that was measured: at any load, in any bin, and without what was learned since.
        """
        file, point = self.file, risk.dearest_within(most)
        plan = Plan(risk.strategy, risk.params, is_calibrated=True, difficulty=difficulty, bin=self.bin_of(difficulty))
        if point is None:
            why = f"risk {most:g}: no cheaper plan is known to hold it, so {risk.plan}, the most accurate fixed plan"
            return replace(plan, why=why, temperature=0.0 if risk.strategy == "direct" else file.temperature)
        why = f"risk {most:g} against {risk.plan}: at this price the expected loss is at most {max(point.bound, 0.0):.3f}"
        before = difficulty.probability if difficulty.lesson is None else difficulty.lesson.before
        rule = ValueOfComputationRule(self._estimators, before, point.price * file.flops_per_token, difficulty.lesson)
        params = {"n": file.stages[-1].answers, "attempts": file.attempts}
        return replace(plan, strategy="adaptive", params=params, why=why, rule=rule, temperature=file.temperature)


def price_multiplier(load: float) -> float:
    """Return the multiplier: 1 up to `BUSY_LOAD`, then rising exponentially to `MAX_PRICE_MULTIPLIER` at a load of 1."""
    return float(MAX_PRICE_MULTIPLIER ** (max(load - BUSY_LOAD, 0.0) / (1 - BUSY_LOAD)))


def _expected_cost(chosen_bin: Bin, effort: Effort) -> ExpectedCost | None:
    by_plan = {one.plan: one for one in chosen_bin.measured}
    direct, auto = by_plan.get("direct"), by_plan.get(auto_label(effort))
    return None if direct is None or auto is None else ExpectedCost(auto.branches, auto.flops / direct.flops)
