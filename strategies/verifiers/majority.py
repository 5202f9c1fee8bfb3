"""How many agree."""

from collections.abc import Sequence

from strategies.core.ports import Model, Verifier
from strategies.core.strategy import StrategyContext
from strategies.core.values import Candidate, Task
from strategies.voting.count import count, mean_probability


class Majority(Verifier):
    """(votes for its answer + its likelihood) / (candidates + 1): by votes, and among equals by likelihood."""

    name = "majority"
    summary = "Votes for the candidate's answer, ties by likelihood; needs comparable answers."
    num_logprobs: int | None = 0

    def __init__(self, context: StrategyContext) -> None:
        self._equivalence = context.equivalence

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """In [0, 1]; a candidate without a readable answer has no votes."""
        ballot = await count(task, candidates, self._equivalence)
        votes = {member.index: len(group.members) for group in ballot.groups for member in group.members}
        return [
            (votes.get(candidate.index, 0) + mean_probability(candidate)) / (len(candidates) + 1) for candidate in candidates
        ]
