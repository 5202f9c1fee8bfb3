"""Decides after each wave whether another one pays, by the value of computation.

Computation is worth its price while it is expected to improve the decision by more than it costs (Russell and Wefald 1991,
"Principles of metareasoning"). Here a search continues while some later stage is expected to add more accuracy than its FLOPs cost
at the caller's price. So it stops early both on questions that are settled and on questions that are hopeless.
"""

import math

from app.routing.features import Features, evidence_features
from app.routing.policy_file import PolicyFile, Stage
from strategies.core.stopping_rule import Decision, Evidence
from strategies.core.values import StopReason

SETTLED_PROBABILITY = 0.9
"""A search that stops with a leader at least this probably right is reported as settled."""

MAX_LOG_GROWTH = 6.0
"""The highest predicted log growth of tokens that is used: a linear model may extrapolate to absurd numbers."""


class ValueOfComputationRule:
    """The `strategies.core.stopping_rule.StoppingRule` of one request with a calibrated policy.

    Args:
        policy: the policy, with its estimators.
        difficulty: the estimated difficulty of the prompt, 0 to 1.
        price: the accuracy (1 is all questions) that a FLOP must gain.

    Attributes:
        difficulty_after_wave: the estimated probability that the leading answer is wrong, after the last wave; None before the
            first one.

    """

    def __init__(self, policy: PolicyFile, difficulty: float, price: float) -> None:
        self._policy = policy
        self._prompt_difficulty = difficulty
        self._price = price
        self.difficulty_after_wave: float | None = None

    def decide(self, evidence: Evidence) -> Decision:
        """Return the size of the next stage while some later stage is worth its price; else stop, and say why."""
        stages = self._policy.stages
        places = [place for place, stage in enumerate(stages) if stage.answers == evidence.answers]
        if not places:  # the caller wants several answers at once, or fewer than were measured
            return Decision(None)
        [place] = places
        features = evidence_features(evidence, self._prompt_difficulty)
        self.difficulty_after_wave = 1 - stages[place].right(features)
        if self._best_net_gain(stages[place], features, evidence) > 0:
            # the estimates are renewed after each wave, so the search goes one stage at a time even when a later one looks best
            return Decision(stages[place + 1].answers)
        is_settled = self.difficulty_after_wave < 1 - SETTLED_PROBABILITY
        return Decision(None, StopReason.SETTLED if is_settled else StopReason.DIMINISHING_RETURNS)

    def _best_net_gain(self, stage: Stage, features: Features, evidence: Evidence) -> float:
        """Return the highest expected gain in accuracy less its price; 0 where there is no later stage."""
        price_so_far = evidence.tokens * self._policy.flops_per_token * self._price
        return max(
            (gain.accuracy(features) - price_so_far * _growth(gain.token_growth(features)) for gain in stage.gains),
            default=0.0,
        )


def _growth(log_growth: float) -> float:
    """Return (added tokens / tokens so far) from the log of the growth of tokens."""
    return math.expm1(min(max(log_growth, 0.0), MAX_LOG_GROWTH))
