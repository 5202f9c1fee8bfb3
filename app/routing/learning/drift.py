"""Tests, outcome by outcome, whether a calibrated policy still estimates better than the general estimator.

The test bets against the policy: with each outcome its evidence is multiplied by 1 + BET times the difference of the two Brier scores
(Choe and Ramdas 2021, "Comparing sequential forecasters", arXiv:2110.00115), and begins anew where it falls below 1 (an e-detector, Shin
et al. 2022, arXiv:2203.03532). So a policy that is as good as the general estimator is left about once in 1 / `FALSE_ALARMS` outcomes.
"""

import math

FALSE_ALARMS = 0.001
"""How often, per outcome, a policy that is as good as the general estimator may be left."""

THRESHOLD = -math.log(FALSE_ALARMS)
"""The logarithm of the evidence from which on a policy is left."""

BET = 0.5
"""The share of the evidence that is bet on each outcome."""

LEAST_OUTCOMES = 50.0
"""The outcomes, by weight, before which no policy is left."""

MEMORY = 500.0
"""The outcomes, by weight, after which old evidence counts 1/e of new."""

SHARE_OF_KEY = 0.6
"""The most that one of several API keys adds to the evidence, as a share of the threshold: two must find the policy wrong."""


class Drift:
    """The evidence that a policy is worse than the general estimator.

    Attributes:
        evidence: its logarithm, at least 0.
        outcomes: their weight, as far as they are not forgotten.
        is_left: the policy is not used any more. Only a new one, or the choice of one, changes that.

    """

    __slots__ = ("_added", "evidence", "is_left", "outcomes")

    def __init__(self, evidence: float = 0.0, outcomes: float = 0.0, *, is_left: bool = False) -> None:
        self.evidence = evidence
        self.outcomes = outcomes
        self.is_left = is_left
        self._added: dict[str, float] = {}

    def copy(self) -> "Drift":
        """Return a copy, without what each key has added."""
        return Drift(self.evidence, self.outcomes, is_left=self.is_left)

    def observe(
        self, own: float, rival: float, outcome: float, weight: float, key: str = "", *, has_others: bool = False
    ) -> bool:
        """Take in an outcome, and return whether the policy is left because of it.

        Args:
            own: the policy's estimate, 0 to 1.
            rival: the general estimator's.
            outcome: 1 for what was estimated, 0 for its opposite.
            weight: how much the outcome counts, 0 to 1.
            key: the API key that it comes from.
            has_others: whether other keys use the model too.

        """
        if self.is_left or not (all(0 <= one <= 1 for one in (own, rival, outcome)) and 0 < weight <= 1):
            return False
        difference = (own - outcome) ** 2 - (rival - outcome) ** 2
        kept = math.exp(-weight / MEMORY)
        step = weight * math.log1p(BET * difference)
        self._added = {one: added * kept for one, added in self._added.items()}
        if step > 0:
            added = self._added.get(key, 0.0)
            if has_others:
                step = max(min(step, SHARE_OF_KEY * THRESHOLD - added), 0.0)
            self._added[key] = added + step
        self.evidence = max(kept * self.evidence + step, 0.0)
        self.outcomes = kept * self.outcomes + weight
        self.is_left = self.evidence >= THRESHOLD and self.outcomes >= LEAST_OUTCOMES
        return self.is_left
