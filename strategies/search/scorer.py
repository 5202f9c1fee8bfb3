"""A verifier at work on one task: it keeps to the deadline, and likelihood takes its place when it fails."""

import asyncio
from collections.abc import Sequence

from strategies.core.errors import VerifierFailed
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier
from strategies.verifiers.likelihood import Likelihood


class Scorer:
    """Scores for one run of a strategy.

    When the verifier fails (`VerifierFailed`), likelihood scores from then on, so that candidates which are compared later were scored by
    the same verifier. At the deadline likelihood scores too, since something must be chosen.

    Attributes:
        notes: one sentence for the caller about each failure.

    """

    def __init__(self, verifier: Verifier, task: Task, model: Model) -> None:
        self._verifier = verifier
        self._task = task
        self._model = model
        self.notes: list[str] = []

    @property
    def num_logprobs(self) -> int:
        """What `Draw.num_logprobs` must be: at least 0, since likelihood breaks ties and may have to take over."""
        return max(self._verifier.num_logprobs or 0, self._task.num_logprobs or 0)

    @property
    def is_exact(self) -> bool:
        """Whether the verifier never errs, so that it pays to score each candidate as soon as it is there."""
        return self._verifier.is_exact

    def state(self, candidate: Candidate) -> str:
        """Return what a partial answer has come to; see `Verifier.state`."""
        return self._verifier.state(self._task, candidate)

    async def score(self, candidates: Sequence[Candidate]) -> list[float]:
        """Return one score in [0, 1] for each candidate, scored together."""
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
        """Return whether the score proves that the candidate is right, so that the search may end."""
        return self._verifier.is_exact and candidate.is_complete and score >= 1.0
