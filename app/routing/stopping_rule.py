"""Whether another wave pays: the value of computation (Russell and Wefald 1991), looked at after every one.

Go on while some later stage is expected to add more accuracy than its FLOPs cost at the caller's price. So a search stops on questions that
are settled and on those that are hopeless alike.
"""

import math

from app.routing.features import Features, of_evidence
from app.routing.policy_file import PolicyFile, Stage
from strategies.core.stopping_rule import Decision, Evidence
from strategies.core.values import StopReason

SURE = 0.9
"""Probability of being right above which a search that ends is called settled."""

MOST_LOG = 6.0
"""Of the growth of tokens that is believed."""


class ValueOfComputationRule:
    """`strategies.core.stopping_rule.StoppingRule` for one request.

    Attributes:
        after: estimated probability that the leading answer is wrong, as of the last look; None before the first.

    """

    def __init__(self, policy: PolicyFile, difficulty: float, price: float) -> None:
        self._policy = policy
        self._before = difficulty
        self._price = price
        self.after: float | None = None

    def next(self, evidence: Evidence) -> Decision:
        """The next stage, while some later one is worth its price."""
        stages = self._policy.stages
        places = [place for place, stage in enumerate(stages) if stage.answers == evidence.answers]
        if not places:  # several answers were wanted at once, or fewer than was measured
            return Decision(None)
        [place] = places
        features = of_evidence(evidence, self._before)
        self.after = 1 - stages[place].right(features)
        if self._best(stages[place], features, evidence) > 0:
            return Decision(stages[place + 1].answers)
        return Decision(None, StopReason.SETTLED if self.after < 1 - SURE else StopReason.PRICED)

    def _best(self, stage: Stage, features: Features, evidence: Evidence) -> float:
        """The highest expected gain, less what it costs; 0 where there is no later stage."""
        each = evidence.tokens * self._policy.flops_per_token * self._price
        return max((gain.expected(features) - each * _growth(gain.tokens(features)) for gain in stage.gains), default=0.0)


def _growth(log: float) -> float:
    return math.expm1(min(max(log, 0.0), MOST_LOG))
