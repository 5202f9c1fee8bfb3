"""How probable the model found what it wrote."""

from collections.abc import Sequence

from strategies.core.ports import Model, Verifier
from strategies.core.strategy import StrategyContext
from strategies.core.values import Candidate, Task
from strategies.voting.count import mean_probability


class Likelihood(Verifier):
    """The geometric mean of the token probabilities, exp(mean log p): by length, so that short is not better as such."""

    name = "likelihood"
    summary = "Mean log-probability of the tokens."
    num_logprobs: int | None = 0

    def __init__(self, context: StrategyContext | None = None) -> None:
        """It needs no tools."""

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """In (0, 1]; 0 for a candidate without tokens."""
        return [mean_probability(candidate, candidate.step_start) for candidate in candidates]
