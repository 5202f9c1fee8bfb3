"""Whether a policy still fits: what difficulty was predicted, how far answers agreed, and how often they were right where anybody knows."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


@dataclass(frozen=True, slots=True)
class Seen:
    """What one request showed.

    Attributes:
        before: difficulty by the prompt, `after` by the last look at the answers; None where nothing was measured, or nobody looked.
        bin: of `before`, from 1; 0 without one.
        agreement: share of the answers that give the one that was chosen; None where there is one alone.
        is_right: as a rule that does not err says; None where there is none.

    """

    before: float | None = None
    after: float | None = None
    bin: int = 0
    agreement: float | None = None
    is_right: bool | None = None


class DriftMetrics:
    """The collectors; labels are the model and the adapter, bounded as everywhere, and the bin."""

    def __init__(self, registry: CollectorRegistry) -> None:
        who = ["model", "adapter"]

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"ponder_{name}", text, [*who, *labels], buckets=TENTHS, registry=registry)

        self._difficulty = histogram(
            "difficulty",
            "Estimated probability of being wrong: by the prompt, and after the last look at the answers.",
            "moment",
        )
        self._agreement = histogram("agreement", "Share of the answers of a request that give the chosen one.", "bin")
        self._outcomes = Counter(
            "ponder_outcomes_total", "Answers that a rule (`rule`) or the caller (`feedback`) called right or wrong.",
            [*who, "bin", "source", "outcome"], registry=registry,
        )  # fmt: skip

    def book(self, model: str, adapter: str, seen: Seen) -> None:
        """One request that was answered."""
        for moment, difficulty in (("before", seen.before), ("after", seen.after)):
            if difficulty is not None:
                self._difficulty.labels(model, adapter, moment).observe(difficulty)
        if seen.agreement is not None:
            self._agreement.labels(model, adapter, str(seen.bin)).observe(seen.agreement)
        if seen.is_right is not None:
            self.judged(model, adapter, seen.bin, "rule", is_right=seen.is_right)

    def judged(self, model: str, adapter: str, number: int, source: str, *, is_right: bool) -> None:
        """An answer to a question of that bin, by `rule` or `feedback`."""
        self._outcomes.labels(model, adapter, str(number), source, "right" if is_right else "wrong").inc()

    def forget_adapter(self, name: str) -> None:
        """Drop its series."""
        for metric in (self._difficulty, self._agreement, self._outcomes):
            metric.remove_by_labels({"adapter": name})
