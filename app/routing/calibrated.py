"""The policy of a model that was measured: difficulty from the prompt, and a plan with the rule that ends it."""

from bisect import bisect_right
from dataclasses import replace

from app.request import Effort
from app.routing.features import of_prompt
from app.routing.policy import BUSY_LOAD, Expected, Plan, Query
from app.routing.policy_file import Bin, PolicyFile, auto_label
from app.routing.stopping_rule import ValueOfComputationRule

HIGHEST_RISE = 8.0
"""Times the price at full load; it begins to rise at `BUSY_LOAD`."""


class CalibratedPolicy:
    """See the module. Plans only for kinds of answers that were measured; None for others."""

    def __init__(self, file: PolicyFile) -> None:
        self.file = file

    def difficulty(self, query: Query) -> tuple[float, int] | None:
        """That the first answer is wrong, and its bin from 1; None for kinds that were not measured."""
        if query.kind not in self.file.kinds:
            return None
        difficulty = self.file.before(of_prompt(query.question))
        return difficulty, bisect_right(self.file.edges, difficulty) + 1

    def plan(self, query: Query) -> Plan | None:
        """A plan with its rule, and the difficulty that it rests on."""
        file = self.file
        if (known := self.difficulty(query)) is None:
            return None
        difficulty, number = known
        rise = HIGHEST_RISE ** (max(query.load - BUSY_LOAD, 0.0) / (1 - BUSY_LOAD))
        fifth = file.bins[number - 1]
        strategy = fifth.plans[query.effort]
        why = f"difficulty {difficulty:.2f}, bin {number} of {len(file.bins)}, {query.effort} effort (calibrated)"
        if rise > 1:
            why += f"; the server is busy, compute costs {rise:.1f} times as much"
        plan = Plan(
            strategy, why=why, is_calibrated=True, difficulty=difficulty, bin=number,
            alternatives=fifth.measured, expected=_expected(fifth, query.effort),
        )  # fmt: skip
        if strategy == "direct":
            return replace(plan, temperature=0.0)
        rule = ValueOfComputationRule(file, difficulty, file.prices[query.effort] * rise)
        params = {"n": file.stages[-1].answers, "attempts": file.attempts}
        return replace(plan, params=params, rule=rule, temperature=file.temperature)


def _expected(fifth: Bin, effort: Effort) -> Expected | None:
    by_plan = {one.plan: one for one in fifth.measured}
    direct, auto = by_plan.get("direct"), by_plan.get(auto_label(effort))
    return None if direct is None or auto is None else Expected(auto.branches, auto.flops / direct.flops)
