"""How long answers are and how fast the engine is, as seen in the last requests: what a forecast rests on."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from app.engine.architecture import Architecture
from strategies.core.strategy import Forecast

ASSUMED_TOKENS = 256
"""Length of an answer, before any was seen."""

VERDICT_TOKENS = 32
"""Of the question that a verdict is asked by, and what of its prefix does not fill a block of the cache."""

NEWEST = 0.1
"""Weight of the newest observation in a moving mean."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a plan is expected to take. `seconds` is None before anything was measured; `answer_tokens` is what it assumes."""

    tokens: int
    flops: int
    seconds: float | None
    answer_tokens: int


class ThroughputEstimator:
    """Moving means: tokens of an answer, and tokens a second by the number of branches at once (powers of two)."""

    def __init__(self) -> None:
        self._answer_tokens: float | None = None
        self._speeds: dict[int, float] = {}

    def observe(self, width: int, tokens: int, seconds: float, lengths: Iterable[int]) -> None:
        """A finished request: branches at once, tokens generated, seconds of search, and lengths of its whole answers."""
        for length in lengths:
            self._answer_tokens = _mean(self._answer_tokens, length)
        if seconds > 0 and tokens:
            bucket = round(math.log2(max(width, 1)))
            self._speeds[bucket] = _mean(self._speeds.get(bucket), tokens / seconds)

    def answer_tokens(self, limit: int) -> int:
        """How long an answer is expected to be, where it may have `limit` tokens."""
        return max(min(round(self._answer_tokens or ASSUMED_TOKENS), limit), 1)

    def predict(
        self, forecast: Forecast, width: int, prompt_tokens: int, answer_tokens: int, model: Architecture
    ) -> Prediction:
        """Tokens, FLOPs and seconds of a run, its prompt prefilled once; a lower bound on reuse, as prefixes grow by the way."""
        each = max(round(forecast.tokens / max(forecast.branches, 1)), 1)
        before = prompt_tokens + max(answer_tokens - each, 0) // 2
        first = sum(model.branch_cost(prompt_tokens, 0, each))
        others = sum(model.branch_cost(before, max(before - VERDICT_TOKENS // 2, 0), each)) * max(forecast.branches - 1, 0)
        judged = prompt_tokens + answer_tokens
        verdict = sum(model.branch_cost(judged + VERDICT_TOKENS, judged, 1))
        tokens = forecast.tokens + forecast.verdicts
        speed = self._speed(width)
        return Prediction(
            tokens, first + others + forecast.verdicts * verdict, None if speed is None else tokens / speed, answer_tokens
        )

    def _speed(self, width: int) -> float | None:
        wanted = math.log2(max(width, 1))
        nearest = min(self._speeds, key=lambda bucket: abs(bucket - wanted), default=None)
        return None if nearest is None else self._speeds[nearest]


def _mean(before: float | None, newest: float) -> float:
    return newest if before is None else before + NEWEST * (newest - before)
