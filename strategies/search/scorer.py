"""A verifier at work on one task: within the deadline, and with somebody to take its place when it fails."""

import asyncio
from collections.abc import Sequence

from strategies.core.errors import VerifierFailed
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier
from strategies.verifiers.likelihood import Likelihood


class Scorer:
    """Scores for one run of a strategy.

    When the verifier fails (`VerifierFailed`), likelihood scores from then on, so that what is compared later was scored alike, and
    `notes` says so. At the deadline likelihood steps in too, since something must be chosen.
    """

    def __init__(self, verifier: Verifier, task: Task, model: Model) -> None:
        self._verifier = verifier
        self._task = task
        self._model = model
        self.notes: list[str] = []

    @property
    def num_logprobs(self) -> int:
        """What `Model.sample` is to be asked for: at least the sampled tokens' own, to break ties and to fall back on."""
        return max(self._verifier.num_logprobs or 0, self._task.num_logprobs or 0)

    @property
    def is_exact(self) -> bool:
        """Whether its word is final, so that it pays to ask at once."""
        return self._verifier.is_exact

    def state(self, candidate: Candidate) -> str:
        """What a partial answer has come to."""
        return self._verifier.state(self._task, candidate)

    async def score(self, candidates: Sequence[Candidate]) -> list[float]:
        """One score in [0, 1] each, all of them at once."""
        if not candidates:
            return []
        try:
            async with asyncio.timeout_at(self._model.deadline):
                return await self._verifier.score(self._task, candidates, self._model)
        except TimeoutError:
            pass
        except VerifierFailed as failure:
            self.notes.append(f"{failure}; likelihood chose instead")
            self._verifier = Likelihood()
        return await Likelihood().score(self._task, candidates, self._model)

    def has_proven(self, candidate: Candidate, score: float) -> bool:
        """Whether the score proves that the candidate is right, so that nothing is left to look for."""
        return self._verifier.is_exact and candidate.is_complete and score >= 1.0
