"""How many agree."""

from collections.abc import Sequence

from strategies.ballot import count, mean_probability
from strategies.base import Candidate, Model, Task, Verifier
from strategies.strategy import Tools


class Majority(Verifier):
    """(votes for its answer + its likelihood) / (candidates + 1): by votes, and among equals by likelihood."""

    name = "majority"
    summary = "Votes for the candidate's answer, ties by likelihood; needs comparable answers."
    num_logprobs: int | None = 0

    def __init__(self, tools: Tools) -> None:
        self._equivalence = tools.equivalence

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """In [0, 1]; a candidate without a readable answer has no votes."""
        ballot = await count(task, candidates, self._equivalence)
        votes = {member.index: len(group.members) for group in ballot.groups for member in group.members}
        return [
            (votes.get(candidate.index, 0) + mean_probability(candidate)) / (len(candidates) + 1) for candidate in candidates
        ]
