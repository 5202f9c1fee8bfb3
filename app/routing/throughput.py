"""Estimates how long answers are and how fast the engine is, from the last requests. A dry run's prediction rests on it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from app.engine.architecture import Architecture
from strategies.core.strategy import Forecast

ASSUMED_TOKENS = 256
"""The length of an answer before one was observed."""

VERIFIER_PROMPT_TOKENS = 32
"""The tokens of a verifier's question, and those of its prefix that do not fill a block of the prefix cache."""

NEWEST_WEIGHT = 0.1
"""The weight of the newest observation in a moving mean."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The expected cost of a plan.

    Attributes:
        tokens: the number of generated and scored tokens.
        flops: the FLOPs of all branches and scores.
        seconds: None before a speed was measured.
        answer_tokens: the length of an answer that is assumed.

    """

    tokens: int
    flops: int
    seconds: float | None
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Models:
    """The architectures of the model that answers, with its adapter, and of another one that scores; None where no other one does."""

    generator: Architecture
    judge: Architecture | None = None

    def score_cost(self, prompt_tokens: int, answer_tokens: int, num: int) -> int:
        """Return the FLOPs of so many scores. Another model has not written the answers: it reads all of them, and the prompt once."""
        prompt, end = prompt_tokens, prompt_tokens + answer_tokens
        if self.judge is None or num == 0:
            return num * sum(self.generator.branch_cost(end + VERIFIER_PROMPT_TOKENS, end, 1))
        first, later = (sum(self.judge.branch_cost(end + VERIFIER_PROMPT_TOKENS, cached, 1)) for cached in (0, prompt))
        return first + (num - 1) * later


class ThroughputEstimator:
    """Keeps moving means: the tokens of an answer, and the tokens a second by the number of concurrent branches."""

    def __init__(self) -> None:
        self._answer_tokens: float | None = None
        # by the logarithm to base 2 of the number of branches, rounded
        self._speeds: dict[int, float] = {}

    def observe(self, width: int, tokens: int, seconds: float, lengths: Iterable[int]) -> None:
        """Take in a finished request.

        Args:
            width: the number of concurrent branches.
            tokens: the number of generated tokens.
            seconds: the duration of the search.
            lengths: the lengths of its complete answers, in tokens.

        """
        for length in lengths:
            self._answer_tokens = _moving_mean(self._answer_tokens, length)
        if seconds > 0 and tokens:
            bucket = round(math.log2(max(width, 1)))
            self._speeds[bucket] = _moving_mean(self._speeds.get(bucket), tokens / seconds)

    def answer_tokens(self, limit: int) -> int:
        """Return the expected length of an answer that may have at most `limit` tokens."""
        return max(min(round(self._answer_tokens or ASSUMED_TOKENS), limit), 1)

    def predict(self, forecast: Forecast, width: int, prompt_tokens: int, answer_tokens: int, models: Models) -> Prediction:
        """Return the expected tokens, FLOPs and seconds of a run whose prompt is prefilled once.

        Args:
            forecast: the number of branches, tokens and scores.
            width: the number of concurrent branches.
            prompt_tokens: the length of the prompt.
            answer_tokens: the length of an answer.
            models: that compute the FLOPs.

        """
        branch_tokens = max(round(forecast.tokens / max(forecast.branches, 1)), 1)
        model = models.generator
        # a branch of a stepwise search continues a partial answer, which is half written on average
        prefix = prompt_tokens + max(answer_tokens - branch_tokens, 0) // 2
        first = sum(model.branch_cost(prompt_tokens, 0, branch_tokens))
        cached = max(prefix - VERIFIER_PROMPT_TOKENS // 2, 0)
        others = sum(model.branch_cost(prefix, cached, branch_tokens)) * max(forecast.branches - 1, 0)
        scores = models.score_cost(prompt_tokens, answer_tokens, forecast.verifier_calls)
        tokens = forecast.tokens + forecast.verifier_calls
        speed = self._speed(width)
        return Prediction(tokens, first + others + scores, None if speed is None else tokens / speed, answer_tokens)

    def _speed(self, width: int) -> float | None:
        """Return the tokens a second at the number of branches nearest to `width` that was observed."""
        log_width = math.log2(max(width, 1))
        nearest = min(self._speeds, key=lambda bucket: abs(bucket - log_width), default=None)
        return None if nearest is None else self._speeds[nearest]


def _moving_mean(mean: float | None, newest: float) -> float:
    return newest if mean is None else mean + NEWEST_WEIGHT * (newest - mean)
