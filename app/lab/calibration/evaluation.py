"""What plans were worth on questions: fixed ones replayed over the pool, a policy by its rule on trajectories."""

from collections.abc import Sequence

import numpy as np

from app.lab.calibration.fitting import Observed
from app.lab.calibration.fixed_plans import Fixed, replayed
from app.lab.calibration.pricing import Ended, as_planned, bins_of, end
from app.lab.calibration.questions import Question, Replayed
from app.lab.calibration.summary import Worth
from app.request import Effort
from app.routing.features import prompt_features
from app.routing.policy_file import PolicyFile, auto_label
from strategies.core.context import StrategyContext


async def fixed_worth(plan: Fixed, questions: Sequence[Question], context: StrategyContext, orders: int) -> Worth:
    """Of a plan that does not look."""
    return worth(plan.label, await replayed(plan, questions, context, orders), plan.n)


def policy_worth(file: PolicyFile, effort: Effort, observed: Sequence[Observed]) -> tuple[Worth, np.ndarray, list[list[Ended]]]:
    """Of a policy at an effort, as it would be served; the difficulties that it saw in the prompts; and where its rule ended."""
    difficulties = np.array([file.prompt_difficulty(prompt_features(one.text)) for one in observed])
    ended = [
        [end(file, difficulty, file.prices[effort], trajectory) for trajectory in one.trajectories]
        for one, difficulty in zip(observed, difficulties, strict=True)
    ]
    plans = [fifth.plans[effort] for fifth in file.bins]
    served = as_planned(ended, observed, bins_of(difficulties, file.edges), plans)
    return worth(auto_label(effort), served), difficulties, ended


def worth(label: str, outcomes: Sequence[Sequence[Replayed | Ended]], n: int = 0) -> Worth:
    """Means over the orders of each question."""
    return Worth(
        label,
        np.array([np.mean([one.is_right for one in each]) for each in outcomes]),
        np.array([np.mean([one.flops for one in each]) for each in outcomes]),
        np.array([np.mean([one.num_drawn for one in each]) for each in outcomes]),
        n,
    )
