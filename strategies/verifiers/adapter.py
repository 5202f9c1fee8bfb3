"""An adapter that was taught to judge: it is asked whether an answer is right, and its word is one token."""

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from strategies.base import Candidate, Model, Task
from strategies.strategy import Params

QUESTION = "\nIs this answer correct (Yes or No)?"
VERDICTS = (" Yes", " No")


class AdapterChoice(Params):
    """`{"adapter": name}` where a verifier is to be named."""

    adapter: Annotated[
        str, Field(min_length=1, max_length=129, description="name of the adapter, `name:sha8` to pin a version")
    ]


class AdapterVerifier:
    """P(Yes) / (P(Yes) + P(No)) as the token after question and answer, by the adapter of that name."""

    name = "adapter"
    num_logprobs: int | None = None

    def __init__(self, adapter: str) -> None:
        self.adapter = adapter

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """In [0, 1]; all candidates are judged together."""
        judge = model.using(self.adapter)
        question = task.encode(QUESTION)
        options = [task.encode(verdict)[0] for verdict in VERDICTS]
        async with asyncio.TaskGroup() as group:
            verdicts = [
                group.create_task(judge.score_options((*task.prefix, *candidate.token_ids, *question), options))
                for candidate in candidates
            ]
        return [_probability(*verdict.result()) for verdict in verdicts]


def _probability(yes: float, no: float) -> float:
    """Of yes, when it is either: the logistic function of the difference."""
    return 1 / (1 + math.exp(min(no - yes, 700.0)))
