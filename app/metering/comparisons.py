"""What an answer would have cost otherwise: the fixed best-of-16 that it is compared with, and the rest of a plan that stopped early.

Both are estimates from the answers that the request drew: what was never drawn is taken to be as long as what was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.engine.architecture import Architecture
from app.metering.meter import Meter
from strategies.core.results import Result
from strategies.core.strategy import Forecast
from strategies.core.values import StopReason, Task

FIXED_N = 16
"""Blind sampling, as it is usually done."""

EARLY = frozenset({StopReason.SETTLED, StopReason.PRICED, StopReason.VERIFIED})
"""Reasons to stop before the plan was carried out."""


@dataclass(frozen=True, slots=True)
class Usual:
    """A usual answer to a prompt: `tokens` long, after `prompt_tokens`, by this model."""

    architecture: Architecture
    prompt_tokens: int
    tokens: int

    @classmethod
    def of(cls, architecture: Architecture, prompt_tokens: int, result: Result) -> "Usual":
        """The mean of the answers that the model ended by itself; of all, where it ended none."""
        lengths = [len(one.candidate.token_ids) for one in result.candidates if one.candidate.is_complete]
        lengths = lengths or [len(one.candidate.token_ids) for one in result.candidates]
        return cls(architecture, prompt_tokens, round(sum(lengths) / len(lengths)) if lengths else 0)

    def best_of(self, n: int = FIXED_N) -> int:
        """FLOPs of `n` whole answers, all drawn and none ended, after one prefill of the prompt that all of them share."""
        prefill, decode = self.architecture.branch_cost(self.prompt_tokens, 0, self.tokens)
        return prefill + n * decode

    def rest_of(self, planned: int, generated: int) -> int:
        """FLOPs of the tokens that a plan had before it and that nobody generated."""
        _, decode = self.architecture.branch_cost(self.prompt_tokens, 0, self.tokens)
        return max(planned - generated, 0) * decode // max(self.tokens, 1)


def compare(
    meter: Meter,
    model: Architecture,
    tasks: Sequence[Task],
    results: Sequence[Result],
    forecast: Callable[[Task, int], Forecast] | None,
) -> None:
    """Put both on the meter of a request that is answered; `forecast`: of its plan, None where nothing was planned that could be left."""
    for task, result in zip(tasks, results, strict=True):
        usual = Usual.of(model, len(task.prefix), result)
        meter.best_of += usual.best_of()
        if forecast is not None and result.stop_reason in EARLY:
            planned = forecast(task, usual.tokens).tokens
            allowed = planned if meter.budget.tokens is None else min(planned, meter.budget.tokens // len(results))
            left = usual.rest_of(allowed, meter.generated_tokens // len(results))
            most = None if meter.budget.flops is None else meter.budget.flops - meter.total_flops
            meter.saved["early_stopping"] += left if most is None else min(left, most)
