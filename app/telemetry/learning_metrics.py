"""Gauges of the corrections that a server has learned: how far they move each estimate, and how much they have seen."""

from collections.abc import Callable, Iterable
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

    """

    model: str
    adapter: str
    estimator: str
    moment: str
    intercept: float
    slope: float
    weight: float


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
                "Observations that a correction rests on; old ones count less, answers nobody judged 0.3.",
                _weight,
            ),
        ):
            registry.gauge(name, text, partial(self._samples, read), labels)

    def add(self, read: Callable[[], Iterable[CorrectionRow]]) -> None:
        """Show the corrections of a base model from now on. Of several with the same labels the last one is shown."""
        self._readers.append(read)

    def _samples(self, read: Callable[[CorrectionRow], float]) -> Samples:
        rows = {
            (one.model, self._label(one.adapter), one.estimator, one.moment): read(one)
            for rows in self._readers
            for one in rows()
        }
        return list(rows.items())


def _intercept(row: CorrectionRow) -> float:
    return row.intercept


def _slope(row: CorrectionRow) -> float:
    return row.slope


def _weight(row: CorrectionRow) -> float:
    return row.weight
