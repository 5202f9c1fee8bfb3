"""Gauges of the corrections that a server has learned: how far they move each estimate, and how much they have seen."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from app.telemetry.registry import Registry, Samples


class CorrectionRow(NamedTuple):
    """A correction of one estimate.

    Attributes:
        model: the name of the base model.
        adapter: the name of the adapter that answers, "" for the base model.
        estimator: whose estimate it corrects, `general` or `calibrated`.
        moment: of the estimate, `before` the first token or `after` the answers.
        intercept: what is added to the log-odds.
        slope: what the log-odds are multiplied by.
        weight: of all observations together, as far as they are not forgotten.
        evidence: that a calibrated policy is worse than the general estimator, as a logarithm; None where it is of no policy.
        is_left: whether this policy is not used any more.

    """

    model: str
    adapter: str
    estimator: str
    moment: str
    intercept: float
    slope: float
    weight: float
    evidence: float | None = None
    is_left: bool = False


class LearningMetrics:
    """The gauges of all corrections, which are read at each scrape.

    Args:
        registry: where they are registered.
        label: returns the label of an adapter's name.

    """

    def __init__(self, registry: Registry, label: Callable[[str], str]) -> None:
        self._readers: list[Callable[[], Iterable[CorrectionRow]]] = []
        self._label = label
        labels = ["model", "adapter", "estimator", "moment"]
        for name, text, read in (
            ("correction_intercept", "What was learned to add to the log-odds of an estimate of difficulty.", _intercept),
            ("correction_slope", "What was learned to multiply the log-odds of an estimate of difficulty by.", _slope),
            (
                "correction_weight",
                "Observations that a correction rests on; old ones count less, answers nobody judged 0.3, those of live calibration 0.6.",
                _weight,
            ),
        ):
            registry.gauge(name, text, partial(self._samples, read), labels)
        labels = ["model", "adapter"]
        registry.gauge(
            "policy_drift_evidence", "Logarithm of the evidence that a policy is worse than the general estimator; it is left at 6.9.",
            lambda: self._of_policies(lambda one: one.evidence or 0.0), labels,
        )  # fmt: skip
        registry.gauge(
            "policy_is_left", "1 where a policy is not used any more, since its estimates were worse than the general ones.",
            lambda: self._of_policies(lambda one: float(one.is_left)), labels,
        )  # fmt: skip

    def add(self, read: Callable[[], Iterable[CorrectionRow]]) -> None:
        """Show the corrections of a base model from now on. Of several with the same labels the last one is shown."""
        self._readers.append(read)

    def _of_policies(self, read: Callable[[CorrectionRow], float]) -> Samples:
        return list({(one.model, one.adapter): read(one) for one in self._rows() if one.evidence is not None}.items())

    def _samples(self, read: Callable[[CorrectionRow], float]) -> Samples:
        return list({(one.model, one.adapter, one.estimator, one.moment): read(one) for one in self._rows()}.items())

    def _rows(self) -> Iterator[CorrectionRow]:
        """Yield the corrections, but for those of adapters that are not served, or that share their label with others."""
        for rows in self._readers:
            for one in rows():
                if self._label(one.adapter) == one.adapter:
                    yield one


def _intercept(row: CorrectionRow) -> float:
    return row.intercept


def _slope(row: CorrectionRow) -> float:
    return row.slope


def _weight(row: CorrectionRow) -> float:
    return row.weight
