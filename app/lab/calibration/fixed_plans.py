"""Plans that do not look at the question: what a policy has to beat, replayed over a pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.lab.calibration.pool import How
from app.lab.calibration.questions import Question, Replayed
from app.lab.calibration.replay import JUDGE, MENDING, replay
from strategies.core.context import StrategyContext

_JUDGED: dict[str, Any] = {"verifier": {"reward_model": JUDGE}}

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "majority": ("best_of_n", {"verifier": "majority"}),
    "self_consistency": ("self_consistency", {}),
    "self_consistency, waves": ("self_consistency", {"schedule": "waves"}),
    "self_consistency, veto, waves": ("self_consistency", {"schedule": "waves", "veto": "equations"}),
    "best_of_n, likelihood": ("best_of_n", {"verifier": "likelihood"}),
    "best_of_n, equations": ("best_of_n", {"verifier": "equations"}),
    "best_of_n, equations, vote": ("best_of_n", {"verifier": "equations", "select": "vote"}),
    "backtracking": ("backtracking", {}),
    "best_of_n, verifier": ("best_of_n", _JUDGED),
    "best_of_n, verifier, vote": ("best_of_n", {**_JUDGED, "select": "vote"}),
}
"""By name: strategy and parameters but n. Votes that may stop early do so by the Beta rule at 0.95."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A plan for all questions. `n` is 1 for `direct`."""

    name: str
    n: int

    @property
    def label(self) -> str:
        """For tables."""
        return self.name if self.name == "direct" else f"{self.name} n={self.n}"


def plans(how: How) -> list[Fixed]:
    """Those that a pool drawn so allows."""
    found = [Fixed("direct", 1)]
    for name, (strategy, params) in KINDS.items():
        is_mending = strategy in MENDING
        if (params.get("verifier") == _JUDGED["verifier"] and how.verifier is None) or (is_mending and how.attempts == 1):
            continue
        most = 1 + how.mended if is_mending else how.samples
        found += [Fixed(name, n) for n in (1, 2, 4, 8, 16, 32, 64) if n <= most and (n > 1 or is_mending)]
    return found


async def replayed(plan: Fixed, questions: Sequence[Question], context: StrategyContext, orders: int) -> list[list[Replayed]]:
    """(questions, orders) outcomes; `direct` is the greedy answer, and has one."""
    if plan.name == "direct":
        return [[one.replay_greedy()] for one in questions]
    strategy, params = KINDS[plan.name]
    if strategy in MENDING and questions:
        params = {**params, "attempts": questions[0].how.attempts}
    return [
        [await replay(one, strategy, {**params, "n": plan.n}, context, seed) for seed in range(orders)] for one in questions
    ]
