"""Fixed plans: the same plan for every question. A policy must beat them. They are replayed over a pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.lab.calibration.pooled_questions import PooledQuestion, ReplayOutcome
from app.lab.calibration.replay import BACKTRACKING_STRATEGIES, RECORDED_VERIFIER, replay
from app.routing.pool_file import PoolSettings
from strategies.core.verifier import StrategyContext

_WITH_VERIFIER: dict[str, Any] = {"verifier": {"reward_model": RECORDED_VERIFIER}}

STRATEGIES_BY_NAME: dict[str, tuple[str, dict[str, Any]]] = {
    "majority": ("best_of_n", {"verifier": "majority"}),
    "self_consistency": ("self_consistency", {}),
    "self_consistency, waves": ("self_consistency", {"schedule": "waves"}),
    "self_consistency, filter, waves": ("self_consistency", {"schedule": "waves", "filter": "equations"}),
    "best_of_n, likelihood": ("best_of_n", {"verifier": "likelihood"}),
    "best_of_n, equations": ("best_of_n", {"verifier": "equations"}),
    "best_of_n, equations, vote": ("best_of_n", {"verifier": "equations", "select": "vote"}),
    "backtracking": ("backtracking", {}),
    "best_of_n, verifier": ("best_of_n", _WITH_VERIFIER),
    "best_of_n, verifier, vote": ("best_of_n", {**_WITH_VERIFIER, "select": "vote"}),
}
"""Strategy and parameters, without n, by the name of the plan. Votes that stop early do so by the Beta rule at 0.95."""

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""The values of n that are replayed, as far as the pool has samples."""


@dataclass(frozen=True, slots=True)
class FixedPlan:
    """One plan for all questions.

    Attributes:
        name: of `STRATEGIES_BY_NAME`, or `direct`.
        n: the number of answers; 1 for `direct`.

    """

    name: str
    n: int

    @property
    def label(self) -> str:
        """The name of the plan in tables."""
        return self.name if self.name == "direct" else f"{self.name} n={self.n}"


def fixed_plans(settings: PoolSettings) -> list[FixedPlan]:
    """Return the fixed plans that can be replayed over a pool with these settings, `direct` first."""
    found = [FixedPlan("direct", 1)]
    for name, (strategy, params) in STRATEGIES_BY_NAME.items():
        is_backtracking = strategy in BACKTRACKING_STRATEGIES
        needs_scores = params.get("verifier") == _WITH_VERIFIER["verifier"]
        if (needs_scores and settings.verifier is None) or (is_backtracking and settings.attempts == 1):
            continue
        most = 1 + settings.backtracked if is_backtracking else settings.samples
        # one sample without backtracking is a sampled `direct`, which is not worth a plan
        found += [FixedPlan(name, n) for n in SIZES if n <= most and (n > 1 or is_backtracking)]
    return found


async def replay_plan(
    plan: FixedPlan, questions: Sequence[PooledQuestion], context: StrategyContext, orders: int
) -> list[list[ReplayOutcome]]:
    """Return (questions, orders) outcomes of a plan. `direct` is the greedy answer, so it has one outcome per question."""
    if plan.name == "direct":
        return [[one.replay_greedy()] for one in questions]
    strategy, params = STRATEGIES_BY_NAME[plan.name]
    if strategy in BACKTRACKING_STRATEGIES and questions:
        params = {**params, "attempts": questions[0].settings.attempts}
    return [
        [await replay(one, strategy, {**params, "n": plan.n}, context, seed) for seed in range(orders)] for one in questions
    ]
