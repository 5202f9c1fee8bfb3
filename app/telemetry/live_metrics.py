"""Counters of live calibration: the questions that are asked again besides the requests of clients, and what that costs."""

from collections import Counter
from collections.abc import Callable, Mapping

from app.telemetry.registry import Registry
from app.telemetry.request_metrics import RequestLabels

OUTCOMES = ("kept", "stopped", "cut", "known", "full", "failed")
"""What becomes of a question that is asked again."""


class LiveMetrics:
    """The counters of all models.

    Args:
        registry: where they are registered.
        label: returns the label of an adapter's name.

    """

    def __init__(self, registry: Registry, label: Callable[[str], str]) -> None:
        self._label = label
        self._spent: Counter[RequestLabels] = Counter()
        self._questions = registry.counter(
            "live_calibration_questions_total",
            "Questions for live calibration. stopped: a request waited. cut: by a budget. known: it was there. full: the folder is.",
            ["model", "adapter", "outcome"],
        )
        self._flops = registry.counter(
            "live_calibration_flops_total", "FLOPs of live calibration, which are charged to no request.", ["model", "adapter"]
        )

    def start_at_zero(self, model: str) -> None:
        """Put the counters of a base model on the page."""
        self._flops.labels(model, "")
        for outcome in OUTCOMES:
            self._questions.labels(model, "", outcome)

    def count(self, model: str, adapter: str, outcome: str, flops: int) -> None:
        """Count a question, and the FLOPs that it took."""
        label = self._label(adapter)
        self._questions.labels(model, label, outcome).inc()
        self._flops.labels(model, label).inc(flops)
        self._spent[RequestLabels("live_calibration", model, label)] += flops

    def flops(self) -> Mapping[RequestLabels, int]:
        """Return the FLOPs so far, by labels under which their energy is counted."""
        return self._spent
