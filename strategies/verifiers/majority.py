"""Scores a candidate by how many candidates give the same answer."""

from collections.abc import Sequence

from strategies.core.checks import check_comparable
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier
from strategies.voting.count import count_votes, mean_probability


class Majority(Verifier):
    """(votes for its answer + its likelihood) / (candidates + 1), so that likelihood only decides between equal votes."""

    name = "majority"
    summary = "Votes for the candidate's answer, ties by likelihood; needs comparable answers."
    num_logprobs = 0
    scores_steps = False  # a partial answer has no vote

    @classmethod
    def check(cls, task: Task) -> None:
        """Refuse answers that cannot be compared."""
        check_comparable(cls.name, task, parameter="verifier")

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """Return one score in [0, 1] each. A candidate without a readable answer has no votes."""
        vote_count = await count_votes(task, candidates, self.context.equivalence)
        votes = {member.index: len(group.members) for group in vote_count.groups for member in group.members}
        return [
            (votes.get(candidate.index, 0) + mean_probability(candidate)) / (len(candidates) + 1) for candidate in candidates
        ]
