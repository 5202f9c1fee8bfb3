"""Scores short answers higher."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

import ponder


class BriefParams(ponder.Params):
    """One parameter has the verifier's name: a request chooses the verifier by `{"brief": 10}`."""

    brief: Annotated[int, Field(ge=1, description="words of an answer that is short enough")]


class Brief(ponder.Verifier):
    """1.0 for an answer with at most so many words, and less in proportion for a longer one."""

    name = "brief"
    summary = "Whether an answer is short."
    Params = BriefParams
    scores_steps = False  # an answer that is not finished is always shorter

    async def score(
        self,
        task: ponder.Task,
        candidates: Sequence[ponder.Candidate],
        model: ponder.Model,
    ) -> list[float]:
        """Return one score in [0, 1] for each candidate."""
        words = (len(task.read(candidate).split()) for candidate in candidates)
        return [min(self.params.brief / max(count, 1), 1.0) for count in words]
