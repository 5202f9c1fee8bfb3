"""A correction of an estimate's log-odds, learned online: an intercept, a slope, and weights of hashed words.

It is a Bayesian logistic regression whose posterior stays Gaussian: each observation is one Newton step of its logarithm (assumed-density
filtering, as in Graepel et al. 2010, "Web-scale Bayesian click-through rate prediction"). Intercept and slope have a full covariance,
each word a variance of its own. The prior leaves the estimate as it is. With each observation all forgets a little: the precision
relaxes towards that of the prior (Kulhavý and Zarrop 1993, "On a general concept of forgetting"), so that nothing old holds for ever.
"""

import math

import numpy as np

from app.routing.features import logit
from app.routing.learning.words import NO_WORDS, NUM_BUCKETS, Numbers, Words

MAX_CORRECTION = 3.0
"""The most that an estimate's log-odds are moved."""

INTERCEPT_DEVIATION, SLOPE_DEVIATION = 1.0, 0.3
"""The prior's standard deviations. The prior's means are 0 and 1."""

WORD_DEVIATION = 2.0
"""The prior's standard deviation of what all words of a prompt together add to the log-odds."""

MEMORY = 1000.0
"""The observations, by weight, after which an old one counts 1/e of a new one."""

SLOPES = (0.2, 3.0)
"""The slopes that are possible: a correction never turns the order of two estimates around."""


class WordWeights:
    """What the words of prompts add to the log-odds.

    Attributes:
        means: (NUM_BUCKETS,) of the weights.
        precisions: (NUM_BUCKETS,) one over their variances.
        counts: (NUM_BUCKETS,) the prompts that had each word, as far as they are not forgotten.
        prompts: the number of all of these prompts.

    """

    __slots__ = ("counts", "means", "precisions", "prompts")

    def __init__(self) -> None:
        self.means = np.zeros(NUM_BUCKETS)
        self.precisions = np.full(NUM_BUCKETS, WORD_DEVIATION**-2)
        self.counts = np.zeros(NUM_BUCKETS)
        self.prompts = 0.0

    def values(self, words: Words) -> Numbers:
        """Return the (words,) values of a prompt's words: a rare word tells more than one of the instructions in every prompt.

        They are weighted by the inverse document frequency (Spärck Jones 1972), and together have the length 1.
        """
        values: Numbers = words.values * np.log((self.prompts + 2) / (self.counts[words.buckets] + 1))
        length = math.sqrt(float(values @ values))
        if length > 0:
            values /= length
        return values

    def copy(self) -> "WordWeights":
        """Return a copy."""
        other = WordWeights()
        other.means, other.precisions, other.counts = self.means.copy(), self.precisions.copy(), self.counts.copy()
        other.prompts = self.prompts
        return other

    def forget(self, kept: float) -> None:
        """Move everything a little towards the prior."""
        self.prompts *= kept
        self.counts *= kept
        before = kept * self.precisions
        self.precisions = before + (1 - kept) * WORD_DEVIATION**-2
        self.means *= before / self.precisions

    def learn(self, words: Words, values: Numbers, step: float, curvature: float) -> None:
        """Take in an observation: a step along the gradient, and the curvature of its logarithm."""
        buckets = words.buckets
        means = self.means[buckets] + values / self.precisions[buckets] * step
        self.means[buckets] = np.clip(means, -2 * MAX_CORRECTION, 2 * MAX_CORRECTION)
        self.precisions[buckets] += curvature * values**2
        self.counts[buckets] += 1
        self.prompts += 1


class Correction:
    """The correction of one estimate.

    Attributes:
        mean: of intercept and slope.
        covariance: of the two: (intercept, both, slope).
        weight: of all observations together, as far as they are not forgotten.

    """

    __slots__ = ("covariance", "mean", "weight")

    def __init__(self) -> None:
        self.mean = (0.0, 1.0)
        self.covariance = (INTERCEPT_DEVIATION**2, 0.0, SLOPE_DEVIATION**2)
        self.weight = 0.0

    def copy(self) -> "Correction":
        """Return a copy."""
        other = Correction()
        other.mean, other.covariance, other.weight = self.mean, self.covariance, self.weight
        return other

    def shift(self, probability: float, words: Words = NO_WORDS, weights: WordWeights | None = None) -> float:
        """Return what is added to the log-odds of an estimate, at most `MAX_CORRECTION` either way.

        Args:
            probability: the estimate, 0 to 1.
            words: of the prompt.
            weights: of words; None where words have no part in this correction.

        """
        added = 0.0 if weights is None else float(weights.means[words.buckets] @ weights.values(words))
        return self._bounded(probability, added)

    def _bounded(self, probability: float, added: float) -> float:
        intercept, slope = self.mean
        return max(min(intercept + (slope - 1) * logit(probability) + added, MAX_CORRECTION), -MAX_CORRECTION)

    def observe(
        self,
        probability: float,
        outcome: float,
        weight: float,
        words: Words = NO_WORDS,
        weights: WordWeights | None = None,
    ) -> None:
        """Learn from an answer. Numbers that are not finite teach nothing.

        Args:
            probability: the estimate that is corrected, 0 to 1.
            outcome: 1 for what was estimated, 0 for its opposite, or the probability of it where that is not known.
            weight: how much it counts, above 0, and 1 for an outcome that is known.
            words: of the prompt.
            weights: of words, which learn too; None where words have no part in this correction.

        """
        if not (math.isfinite(probability) and 0 <= outcome <= 1 and 0 < weight <= 1):
            return
        kept = math.exp(-weight / MEMORY)
        self._forget(kept)
        added = variance_of_words = 0.0
        if weights is not None:
            weights.forget(kept)
            values = weights.values(words)
            added = float(weights.means[words.buckets] @ values)
            variance_of_words = float(values @ (values / weights.precisions[words.buckets]))
        before = logit(probability)
        now = 1 / (1 + math.exp(-before - self._bounded(probability, added)))
        curvature = weight * now * (1 - now)
        step = self._learn(before, weight * (outcome - now), curvature, variance_of_words)
        if weights is not None:
            weights.learn(words, values, step, curvature)
        self.weight += weight

    def _learn(self, before: float, gradient: float, curvature: float, variance_of_words: float) -> float:
        """Take a Newton step of intercept and slope, and return the gradient as words take it."""
        first, both, second = self.covariance
        # the covariance times (1, before)
        for_intercept, for_slope = first + both * before, both + second * before
        variance = for_intercept + before * for_slope
        step = gradient / (1 + curvature * (variance + variance_of_words))
        share = curvature / (1 + curvature * variance)
        self.mean = (
            max(min(self.mean[0] + for_intercept * step, MAX_CORRECTION), -MAX_CORRECTION),
            max(min(self.mean[1] + for_slope * step, SLOPES[1]), SLOPES[0]),
        )
        self.covariance = (
            first - share * for_intercept**2,
            both - share * for_intercept * for_slope,
            second - share * for_slope**2,
        )
        return step

    def _forget(self, kept: float) -> None:
        """Move everything a little towards the prior."""
        lost = 1 - kept
        self.weight *= kept
        # precisions are matrices here: (a, b, c) stands for ((a, b), (b, c))
        a, b, c = _inverse(*self.covariance)
        prior_a, prior_c = INTERCEPT_DEVIATION**-2, SLOPE_DEVIATION**-2
        intercept, slope = self.mean
        push = (kept * (a * intercept + b * slope), kept * (b * intercept + c * slope) + lost * prior_c)
        first, both, second = _inverse(kept * a + lost * prior_a, kept * b, kept * c + lost * prior_c)
        self.covariance = (first, both, second)
        self.mean = (first * push[0] + both * push[1], both * push[0] + second * push[1])


def _inverse(a: float, b: float, c: float) -> tuple[float, float, float]:
    """Return the inverse of the symmetric matrix ((a, b), (b, c)) in the same form."""
    determinant = a * c - b * b
    return c / determinant, -b / determinant, a / determinant
