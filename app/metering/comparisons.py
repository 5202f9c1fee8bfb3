"""What a request would have cost otherwise, in FLOPs. Dashboards compare these estimates with what it did cost.

Two things are estimated: a fixed best-of-16 for the same prompt, and the rest of a plan that stopped early. Both assume that the
answers that were not drawn are as long as the mean of those that were.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.engine.architecture import Architecture
from app.metering.meter import Meter
from strategies.core.results import Result
from strategies.core.strategy import Forecast
from strategies.core.values import StopReason, Task

FIXED_N = 16
"""Number of answers of the fixed best-of-N that requests are compared with."""

EARLY_STOPS = frozenset({StopReason.SETTLED, StopReason.DIMINISHING_RETURNS, StopReason.VERIFIED})
"""Reasons to stop before the plan was carried out."""


@dataclass(frozen=True, slots=True)
class TypicalAnswer:
    """An answer of mean length to one prompt.

    Attributes:
        architecture: of the model that answers.
        prompt_tokens: length of the prompt.
        tokens: length of the answer.

    """

    architecture: Architecture
    prompt_tokens: int
    tokens: int

    @classmethod
    def of(cls, architecture: Architecture, prompt_tokens: int, result: Result) -> "TypicalAnswer":
        """Return the mean answer of a result; of length 0 where there are no answers.

        Answers that were cut short would bias the mean. They count only where every answer was.
        """
        lengths = [len(one.candidate.token_ids) for one in result.candidates if one.candidate.is_complete]
        lengths = lengths or [len(one.candidate.token_ids) for one in result.candidates]
        return cls(architecture, prompt_tokens, round(sum(lengths) / len(lengths)) if lengths else 0)

    def best_of(self, n: int = FIXED_N) -> int:
        """Return the FLOPs of drawing `n` whole answers after one prefill of the prompt, which all of them share."""
        prefill, decode = self.architecture.branch_cost(self.prompt_tokens, 0, self.tokens)
        return prefill + n * decode

    def rest_of(self, planned: int, generated: int) -> int:
        """Return the FLOPs of the tokens that were planned and not generated; 0 where more were generated than planned."""
        _, decode = self.architecture.branch_cost(self.prompt_tokens, 0, self.tokens)
        return max(planned - generated, 0) * decode // max(self.tokens, 1)


def compare(
    meter: Meter,
    model: Architecture,
    tasks: Sequence[Task],
    results: Sequence[Result],
    forecast: Callable[[Task, int], Forecast] | None,
) -> None:
    """Write both estimates to the meter of an answered request: `meter.best_of` and `meter.saved["early_stopping"]`.

    Args:
        meter: of the request.
        model: that answered.
        tasks: one for each prompt of the request.
        results: one for each task.
        forecast: returns what the plan takes for a task, given the length of an answer in tokens. None where the strategy samples
            for as long as it pays and so has no plan whose rest could be saved.

    """
    for task, result in zip(tasks, results, strict=True):
        typical = TypicalAnswer.of(model, len(task.prefix), result)
        meter.best_of += typical.best_of()
        if forecast is not None and result.stop_reason in EARLY_STOPS:
            planned = forecast(task, typical.tokens).tokens
            # The budget would have ended the plan as well, so what lies beyond it was not saved by stopping early.
            allowed = planned if meter.budget.tokens is None else min(planned, meter.budget.tokens // len(results))
            rest = typical.rest_of(allowed, meter.generated_tokens // len(results))
            flops_left = None if meter.budget.flops is None else meter.budget.flops - meter.total_flops
            meter.saved["early_stopping"] += rest if flops_left is None else min(rest, flops_left)
