"""Evaluates plans on questions: fixed plans by replaying them, a policy by its stopping rule on trajectories."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.lab.calibration.cross_validation import StoppedTrajectory, stop_all
from app.lab.calibration.fixed_plans import FixedPlan, replay_plan
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.policy_choices import bins_of, with_direct_bins
from app.lab.calibration.pooled_questions import PooledQuestion
from app.request import Effort
from app.routing.features import prompt_features
from app.routing.policy_file import PolicyFile, auto_label
from strategies.core.verifier import StrategyContext


@dataclass(frozen=True, slots=True)
class PolicyEvaluation:
    """A policy at one effort, on questions that it was not fitted to.

    Attributes:
        performance: as the policy is served.
        difficulties: (questions,) estimated from the prompts.
        stopped: (questions, orders) where the stopping rule ended, also in bins that are answered directly.

    """

    performance: PlanPerformance
    difficulties: NDArray[np.float64]
    stopped: Sequence[Sequence[StoppedTrajectory]]


async def evaluate_fixed_plan(
    plan: FixedPlan, questions: Sequence[PooledQuestion], context: StrategyContext, orders: int
) -> PlanPerformance:
    """Replay a fixed plan on all questions, in several orders of their samples."""
    return performance_of(plan.label, await replay_plan(plan, questions, context, orders), plan.n)


def evaluate_policy(file: PolicyFile, effort: Effort, observed: Sequence[ObservedQuestion]) -> PolicyEvaluation:
    """Run a policy at an effort on all questions."""
    difficulties = np.array([file.prompt_difficulty(prompt_features(one.text)) for one in observed])
    [stopped] = stop_all(file, observed, [file.prices[effort]]).values()
    plans = [one.plans[effort] for one in file.bins]
    served = with_direct_bins(stopped, observed, bins_of(difficulties, file.edges), plans)
    return PolicyEvaluation(performance_of(auto_label(effort), served), difficulties, stopped)


class Outcome(Protocol):
    """What came of a question: the probability that the answer is right, its FLOPs, and the number of branches that were drawn."""

    @property
    def right(self) -> float: ...

    @property
    def flops(self) -> float: ...

    @property
    def num_drawn(self) -> int: ...


def performance_of(label: str, outcomes: Sequence[Sequence[Outcome]], n: int = 0) -> PlanPerformance:
    """Return the means over the orders of each question, from (questions, orders) outcomes."""
    return PlanPerformance(
        label,
        np.array([np.mean([one.right for one in each]) for each in outcomes]),
        np.array([np.mean([one.flops for one in each]) for each in outcomes]),
        np.array([np.mean([one.num_drawn for one in each]) for each in outcomes]),
        n,
    )
