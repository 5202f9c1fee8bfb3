"""Scores of one token: the model reads a question about each candidate or pair, and the probabilities of two words are compared."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from strategies.core.ports import Model

T = TypeVar("T")

MAX_DIFFERENCE = 700.0
"""Larger differences of log-probabilities are cut to this, so that `exp` does not overflow."""


async def yes_probabilities(
    model: Model, asked: Sequence[T], prompt: Callable[[T], tuple[int, ...]], yes: int, no: int
) -> list[float]:
    """Return P(yes) / (P(yes) + P(no)) as the next token after the prompt of each thing that is asked about, in [0, 1].

    All prompts are sent together, so that the engine batches them. Raises what the first one that fails raises.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(model.score_options(prompt(one), (yes, no))) for one in asked]
    except BaseExceptionGroup as errors:  # all fail for the same reason
        raise errors.exceptions[0] from None
    return [_probability(*task.result()) for task in tasks]


def _probability(yes: float, no: float) -> float:
    """Return P(yes) / (P(yes) + P(no)) from two log-probabilities: the logistic function of their difference."""
    difference = max(min(yes - no, MAX_DIFFERENCE), -MAX_DIFFERENCE)
    return 1 / (1 + math.exp(-difference))
