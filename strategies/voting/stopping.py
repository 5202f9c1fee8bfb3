"""When to stop sampling: functions of vote counts, and the stopping rule that holds where nothing was measured."""

from math import comb

from strategies.core.stopping_rule import Decision, Evidence
from strategies.core.values import StopReason

THRESHOLD = 0.95
"""The posterior at which Adaptive-Consistency stops."""


def leader_posterior(leader: int, runner_up: int) -> float:
    """Return the probability that the leading answer is the more frequent of the two, given their counts and a uniform prior.

    The Beta rule of Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860): P(Beta(a+1, b+1) > 1/2) = 1 - I_0.5(a+1, b+1). For
    integers it is a binomial tail, P(Binomial(a+b+1, 1/2) <= a). 3 to 0 gives 0.9375, 4 to 0 gives 0.96875.
    """
    draws = leader + runner_up + 1
    return float(sum(comb(draws, successes) for successes in range(leader + 1)) / 2**draws)


def is_settled(leader: int, runner_up: int, remaining: int, threshold: float) -> bool:
    """Return whether more samples are not worth drawing: the posterior is high enough, or the runner-up cannot catch up."""
    if leader == 0:
        return False
    return leader - runner_up > remaining or leader_posterior(leader, runner_up) >= threshold


def wave_sizes(total: int, first: int = 4) -> list[int]:
    """Return sizes of waves that add up to `total`: `first`, then as many as were drawn before.

    Four equal votes are the fewest that settle at 0.95, so a smaller first wave could never be the last one.
    """
    sizes: list[int] = []
    drawn = 0
    while drawn < total:
        size = min(max(drawn, first), total - drawn)
        sizes.append(size)
        drawn += size
    return sizes


class BetaRule:
    """Doubles the number of answers until the leader's posterior reaches the threshold: the rule where nothing was measured."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold

    def decide(self, evidence: Evidence) -> Decision:
        """Return the decision; see `StoppingRule`."""
        leader, runner_up, *_ = [*evidence.votes, 0, 0]
        if leader and leader_posterior(leader, runner_up) >= self._threshold:
            return Decision(None, StopReason.SETTLED)
        return Decision(2 * evidence.answers)
