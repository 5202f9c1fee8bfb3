"""Scores a candidate by how probable the model found it."""

from collections.abc import Sequence

from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import StrategyContext, Verifier
from strategies.voting.count import mean_probability


class Likelihood(Verifier):
    """The geometric mean of the token probabilities, exp(mean log p).

    A mean by length, so that a short candidate is not better only because it is short.
    """

    name = "likelihood"
    summary = "Mean log-probability of the tokens."
    num_logprobs = 0

    def __init__(self, params: Params | None = None, context: StrategyContext | None = None) -> None:
        """Neither is needed, so that likelihood can take the place of a verifier that fails."""

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """Return one score in (0, 1] each; 0 for a candidate without tokens."""
        return [mean_probability(candidate, candidate.step_start) for candidate in candidates]
