"""Decides after each wave whether another one pays, by the value of computation.

Computation is worth its price while it is expected to improve the decision by more than it costs (Russell and Wefald 1991,
"Principles of metareasoning"). Here a search continues while some later stage is expected to add more accuracy than its FLOPs cost
at the caller's price. So it stops early both on questions that are settled and on questions that are hopeless.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.routing.features import Features
from app.routing.learning.lesson import Lesson
from app.routing.policy_file import Stage
from strategies.core.stopping_rule import Decision, Evidence
from strategies.core.values import StopReason

SETTLED_PROBABILITY = 0.9
"""A search that stops with a leader at least this probably right is reported as settled."""

MAX_LOG_GROWTH = 6.0
"""The highest predicted log growth of tokens that is used: a linear model may extrapolate to absurd numbers."""


@dataclass(frozen=True, slots=True)
class WaveEstimators:
    """What the rule estimates with after each wave.

    Attributes:
        stages: by the number of answers, rising.
        features: returns what the estimators read, from the evidence and the difficulty of the prompt.

    """

    stages: Sequence[Stage]
    features: Callable[[Evidence, float], Features]


class ValueOfComputationRule:
    """The `strategies.core.stopping_rule.StoppingRule` of one request.

    Args:
        estimators: of a policy.
        difficulty: the estimated difficulty of the prompt, 0 to 1.
        price: the accuracy (1 is all questions) that a token must gain.
        lesson: corrects the estimates after the waves, and learns from them; None where nothing is learned.

    Attributes:
        after_first_tokens: returns the difficulty as the log-probabilities of the first tokens show it; None where nobody can tell.
        difficulty_after_first_tokens: the estimated probability that the first answer is wrong, from its first tokens; None before it.
        difficulty_after_wave: the estimated probability that the leading answer is wrong, after the last wave; None before the
            first one.
        evidence: what the last wave showed; None before the first one.

    """

    def __init__(self, estimators: WaveEstimators, difficulty: float, price: float, lesson: Lesson | None = None) -> None:
        self._estimators = estimators
        self._prompt_difficulty = difficulty
        self._price = price
        self._lesson = lesson
        self.after_first_tokens: Callable[[Sequence[float]], float] | None = None
        self.difficulty_after_first_tokens: float | None = None
        self.difficulty_after_wave: float | None = None
        self.evidence: Evidence | None = None

    def decide(self, evidence: Evidence) -> Decision:
        """Return the size of the next stage while some later stage is worth its price; else stop, and say why."""
        is_new = self.difficulty_after_first_tokens is None
        if is_new and self.after_first_tokens is not None and evidence.first_logprobs:
            self.difficulty_after_first_tokens = self.after_first_tokens(evidence.first_logprobs)
        stages = self._estimators.stages
        places = [place for place, stage in enumerate(stages) if stage.answers == evidence.answers]
        if not places:  # the caller wants several answers at once, or fewer than were measured
            return Decision(None)
        [place] = places
        features = self._estimators.features(evidence, self._prompt_difficulty)
        self.difficulty_after_wave = self._difficulty_after(evidence, stages[place], features)
        self.evidence = evidence
        if self._best_net_gain(stages[place], features, evidence) > 0:
            # the estimates are renewed after each wave, so the search goes one stage at a time even when a later one looks best
            return Decision(stages[place + 1].answers)
        is_settled = self.difficulty_after_wave < 1 - SETTLED_PROBABILITY
        return Decision(None, StopReason.SETTLED if is_settled else StopReason.DIMINISHING_RETURNS)

    def _difficulty_after(self, evidence: Evidence, stage: Stage, features: Features) -> float:
        """Return the probability that the leading answer is wrong, corrected by what was learned."""
        estimate, lesson = 1 - stage.right(features), self._lesson
        if lesson is None:
            return estimate
        plain = estimate
        if lesson.before_shift:
            plain = 1 - stage.right(self._estimators.features(evidence, lesson.before))
        return lesson.see_wave(estimate, plain, first_leads=evidence.first_leads)

    def _best_net_gain(self, stage: Stage, features: Features, evidence: Evidence) -> float:
        """Return the highest expected gain in accuracy less its price; 0 where there is no later stage."""
        price_so_far = evidence.tokens * self._price
        return max(
            (gain.accuracy(features) - price_so_far * _growth(gain.token_growth(features)) for gain in stage.gains),
            default=0.0,
        )


def _growth(log_growth: float) -> float:
    """Return (added tokens / tokens so far) from the log of the growth of tokens."""
    return math.expm1(min(max(log_growth, 0.0), MAX_LOG_GROWTH))
