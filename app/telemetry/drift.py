"""Whether a policy still fits: what difficulty was predicted, how far answers agreed, and how often they were right where anybody knows."""

from dataclasses import dataclass

from app.telemetry.registry import Page

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
    """The families; labels are the model and the adapter, bounded as everywhere, and the bin.

    A policy that fits is right on average twice: what it foresees after a look at the answers is what it foresaw before, and of the
    judged answers as many are wrong as it foresaw.
    """

    def __init__(self, page: Page) -> None:
        who = ["model", "adapter"]
        self._difficulty = page.histogram(
            "difficulty",
            "Estimated probability of being wrong: by the prompt (before; foreseen: where there was a second look), and after that look.",
            TENTHS, [*who, "moment"],
        )  # fmt: skip
        self._agreement = page.histogram(
            "agreement", "Share of the answers of a request that give the chosen one.", TENTHS, [*who, "bin"]
        )
        self._outcomes = page.counter(
            "outcomes_total", "Answers that a rule (`rule`) or the caller (`feedback`) called right or wrong.",
            [*who, "bin", "source", "outcome"],
        )  # fmt: skip
        self._foreseen = page.counter(
            "outcomes_foreseen_total", "How many of the judged answers were expected to be wrong: their difficulties, added up.",
            [*who, "bin", "source"],
        )  # fmt: skip

    def book(self, model: str, adapter: str, seen: Seen) -> None:
        """One request that was answered."""
        foreseen = seen.before if seen.after is not None else None
        for moment, difficulty in (("before", seen.before), ("foreseen", foreseen), ("after", seen.after)):
            if difficulty is not None:
                self._difficulty.labels(model, adapter, moment).observe(difficulty)
        if seen.agreement is not None:
            self._agreement.labels(model, adapter, str(seen.bin)).observe(seen.agreement)
        if seen.is_right is not None:
            self.judged(model, adapter, seen.bin, "rule", is_right=seen.is_right, foreseen=seen.before)

    def judged(self, model: str, adapter: str, number: int, source: str, *, is_right: bool, foreseen: float | None) -> None:
        """An answer to a question of that bin, by `rule` or `feedback`; `foreseen`: its difficulty, None where nothing was measured."""
        for outcome, amount in (("right", int(is_right)), ("wrong", int(not is_right))):
            self._outcomes.labels(model, adapter, str(number), source, outcome).inc(amount)
        if foreseen is not None:
            self._foreseen.labels(model, adapter, str(number), source).inc(foreseen)
