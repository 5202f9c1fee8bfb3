"""Verdicts of one token: the model is asked a question about each candidate, and two words are weighed against each other."""

import asyncio
import math
from collections.abc import Callable, Sequence

from strategies.core.ports import Model
from strategies.core.values import Candidate


async def ask(
    model: Model, candidates: Sequence[Candidate], prompt: Callable[[Candidate], tuple[int, ...]], yes: int, no: int
) -> list[float]:
    """P(yes) / (P(yes) + P(no)) as the next token after each prompt, in [0, 1]; all are asked together."""
    async with asyncio.TaskGroup() as group:
        verdicts = [group.create_task(model.score_options(prompt(candidate), (yes, no))) for candidate in candidates]
    return [_probability(*verdict.result()) for verdict in verdicts]


def _probability(yes: float, no: float) -> float:
    """Of yes, when it is either: the logistic function of the difference."""
    difference = max(min(yes - no, 700.0), -700.0)
    return 1 / (1 + math.exp(-difference))
