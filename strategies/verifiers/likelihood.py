"""How probable the model found what it wrote."""

import math
from collections.abc import Sequence

from strategies.ballot import mean_logprob
from strategies.base import Candidate, Model, Task
from strategies.strategy import Tools


class Likelihood:
    """The geometric mean of the token probabilities, exp(mean log p): by length, so that short is not better as such."""

    name = "likelihood"
    summary = "Mean log-probability of the tokens."
    num_logprobs: int | None = 0

    def __init__(self, tools: Tools) -> None:
        """It needs no tools."""

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """In (0, 1]; 0 for a candidate without tokens."""
        return [min(math.exp(mean_logprob(candidate)), 1.0) for candidate in candidates]
