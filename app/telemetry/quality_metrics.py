"""Metrics that tell whether the difficulty policy still fits: predicted difficulty, agreement of the answers, and known outcomes.

A policy that fits is right on average in two ways. The difficulty that it estimates from the prompts equals the difficulty that it
estimates later from the answers; and the share of answers that turn out wrong equals the difficulty that it estimated for them.
"""

from dataclasses import dataclass

from app.request import NUM_BINS
from app.telemetry.registry import Registry

TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


@dataclass(frozen=True, slots=True)
class AnswerQuality:
    """What one answered request tells about the policy.

    Attributes:
        difficulty_before: estimated probability that one answer is wrong, 0 to 1, from the prompt alone; None without an estimate.
        difficulty_after: the same, estimated from the first answers; None where the stopping rule did not look at them.
        bin: of `difficulty_before`, 1 (easiest) to 5; 0 without an estimate.
        agreement: share of the answers that equal the chosen one, 0 to 1; None where there was only one answer.
        is_right: whether an exact verifier accepted the answer; None where no exact verifier was used.

    """

    difficulty_before: float | None = None
    difficulty_after: float | None = None
    bin: int = 0
    agreement: float | None = None
    is_right: bool | None = None


class QualityMetrics:
    """The metrics of answer quality, by model, adapter and difficulty bin."""

    def __init__(self, registry: Registry) -> None:
        labels = ["model", "adapter"]
        self._difficulty = registry.histogram(
            "difficulty",
            "Estimated probability that an answer is wrong, by moment. before: from the prompt, all requests. after: from the first "
            "answers, where the stopping rule looked at them. expected: from the prompt, the requests that have an after. foreseen: "
            "deprecated name of expected.",
            TENTHS, [*labels, "moment"],
        )  # fmt: skip
        self._agreement = registry.histogram(
            "agreement", "Share of the answers of a request that equal the chosen one.", TENTHS, [*labels, "bin"]
        )
        self._outcomes = registry.counter(
            "outcomes_total", "Answers that an exact verifier (`rule`) or the caller (`feedback`) called right or wrong.",
            [*labels, "bin", "source", "outcome"],
        )  # fmt: skip
        self._expected = registry.counter(
            "outcomes_expected_total", "How many of the answers in outcomes_total were expected to be wrong: their difficulties, added up.",
            [*labels, "bin", "source"],
        )  # fmt: skip
        self._foreseen = registry.counter(
            "outcomes_foreseen_total", "Deprecated: use ponder_outcomes_expected_total, which has the same values.",
            [*labels, "bin", "source"],
        )  # fmt: skip

    def observe(self, model: str, adapter: str, quality: AnswerQuality) -> None:
        """Count one answered request."""
        # Compared with `after`, `before` would be biased: easy requests are often answered without a second estimate.
        expected = quality.difficulty_before if quality.difficulty_after is not None else None
        for moment, difficulty in (
            ("before", quality.difficulty_before),
            ("expected", expected),
            ("foreseen", expected),  # deprecated: goes with the next release
            ("after", quality.difficulty_after),
        ):
            if difficulty is not None:
                self._difficulty.labels(model, adapter, moment).observe(difficulty)
        if quality.agreement is not None:
            self._agreement.labels(model, adapter, str(quality.bin)).observe(quality.agreement)
        if quality.is_right is not None:
            self.count_outcome(
                model, adapter, quality.bin, "rule", is_right=quality.is_right, difficulty=quality.difficulty_before
            )

    def count_outcome(
        self, model: str, adapter: str, bin_number: int, source: str, *, is_right: bool, difficulty: float | None
    ) -> None:
        """Count an answer that is known to be right or wrong.

        Args:
            model: that answered.
            adapter: that answered; empty for the base model.
            bin_number: difficulty bin of the question, 0 where its difficulty was not estimated.
            source: who knows: `rule` (an exact verifier) or `feedback` (the caller).
            is_right: what they say.
            difficulty: estimated from the prompt, 0 to 1; None without an estimate.

        """
        self._start_at_zero(model, adapter, source)
        bin_label = str(bin_number)
        for outcome, amount in (("right", int(is_right)), ("wrong", int(not is_right))):
            self._outcomes.labels(model, adapter, bin_label, source, outcome).inc(amount)
        if difficulty is not None:
            for family in (self._expected, self._foreseen):
                family.labels(model, adapter, bin_label, source).inc(difficulty)

    def _start_at_zero(self, model: str, adapter: str, source: str) -> None:
        """Put the counters of all bins on the page: a rate needs a value before the first outcome of its bin."""
        for number in range(1, NUM_BINS + 1):
            for outcome in ("right", "wrong"):
                self._outcomes.labels(model, adapter, str(number), source, outcome)
            for family in (self._expected, self._foreseen):
                family.labels(model, adapter, str(number), source)
