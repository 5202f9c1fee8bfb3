"""The general estimator: it estimates the difficulty of a question for a model that nobody calibrated, and plans by it."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from app.routing.calibrated import price_multiplier
from app.routing.difficulty import EDGES, Difficulty
from app.routing.estimators import digest_of
from app.routing.general_features import answer_features, first_token_features
from app.routing.general_file import GeneralFile
from app.routing.policy import Plan, PriorPolicy, Query
from app.routing.value_of_computation import ValueOfComputationRule, WaveEstimators
from strategies.core.values import AnswerKind

MEASURED_KINDS = frozenset({AnswerKind.MATH, AnswerKind.CHOICE, AnswerKind.TEXT})
"""The kinds of answers that waves are planned for. A constrained answer is mostly right or wrong in all samples alike."""

SURE_DIFFICULTY = 0.05
"""A question whose whole interval lies below this gets one greedy answer, which can be streamed."""

INTERVAL = (0.05, 0.95)
"""The quantiles of the members' estimates at the ends of an interval."""


SHIPPED = Path(__file__).parent / "general.json"


class GeneralPolicy:
    """Plans requests of any model, from the prompt, the size of the model, and what its answers show.

    Args:
        file: the fitted numbers.

    Attributes:
        digest: of these numbers.
        estimators: after each wave.

    """

    def __init__(self, file: GeneralFile) -> None:
        self.file = file
        self.estimators = WaveEstimators(file.stages, answer_features)
        self.digest = digest_of(*file.prompt_difficulty, *file.stages)

    @classmethod
    def shipped(cls) -> Self:
        """Return the one that comes with the package."""
        return cls(GeneralFile.model_validate_json(SHIPPED.read_bytes()))

    def difficulty(self, query: Query) -> Difficulty | None:
        """Estimate the difficulty of a question; None where no answer can be right or wrong."""
        if query.kind is AnswerKind.OPEN:
            return None
        estimates = self._estimates(query)
        low, high = (float(end) for end in np.quantile(estimates, INTERVAL))
        return query.corrected(Difficulty(float(np.mean(estimates)), low, high, "general"), self.digest)

    def probability(self, query: Query) -> float:
        """Return the probability that the first answer is wrong, without its interval and its correction."""
        return float(np.mean(self._estimates(query)))

    def after_first_tokens(self, query: Query, logprobs: Sequence[float]) -> float:
        """Return the probability that the first answer is wrong, as its first tokens show it.

        Args:
            query: the question.
            logprobs: of up to `strategies.checking.chains.NUM_FIRST_TOKENS` tokens, at least one.

        """
        work = query.reading.work(query.token_flops)
        return self.file.first_tokens(np.concatenate([work, first_token_features(logprobs)]))

    def _estimates(self, query: Query) -> list[float]:
        features = query.reading.general(query.token_flops)
        return [estimator(features) for estimator in self.file.prompt_difficulty]

    def bin_of(self, difficulty: Difficulty) -> int:
        """Return the number of the bin, counted from 1."""
        return bisect_right(EDGES, difficulty.probability) + 1

    def plan(self, query: Query) -> Plan:
        """Return a plan, with its difficulty where an answer can be right or wrong."""
        difficulty = self.difficulty(query)
        if difficulty is None or query.kind not in MEASURED_KINDS:
            number = 0 if difficulty is None else self.bin_of(difficulty)
            return replace(PriorPolicy().plan(query), difficulty=difficulty, bin=number)
        number = self.bin_of(difficulty)
        multiplier = price_multiplier(query.load)
        why = f"difficulty {difficulty.probability:.2f} ({difficulty.low:.2f} to {difficulty.high:.2f}), {query.effort} effort (general)"
        if multiplier > 1:
            why += f"; the server is busy, compute costs {multiplier:.1f} times as much"
        if difficulty.high < SURE_DIFFICULTY:
            return Plan("direct", why=why, difficulty=difficulty, bin=number, temperature=0.0)
        token_price = self.file.prices[query.effort] if query.price is None else query.price * query.token_flops
        price = token_price * multiplier
        rule = ValueOfComputationRule(self.estimators, difficulty.probability, price, difficulty.lesson)
        params = {"n": self.file.stages[-1].answers, "attempts": self.file.attempts}
        return Plan("adaptive", params, why, difficulty=difficulty, bin=number, rule=rule, temperature=self.file.temperature)
