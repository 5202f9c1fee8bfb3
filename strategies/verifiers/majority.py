"""How many agree."""

from collections.abc import Sequence

from strategies.core.errors import UnsupportedTask
from strategies.core.ports import Model
from strategies.core.values import AnswerKind, Candidate, Task
from strategies.core.verifier import Verifier
from strategies.voting.count import count, mean_probability


class Majority(Verifier):
    """(votes for its answer + its likelihood) / (candidates + 1): by votes, and among equals by likelihood."""

    name = "majority"
    summary = "Votes for the candidate's answer, ties by likelihood; needs comparable answers."
    num_logprobs = 0
    scores_steps = False  # a partial answer has no vote

    @classmethod
    def check(cls, task: Task) -> None:
        """Refuse answers that cannot be compared."""
        if task.kind is AnswerKind.OPEN:
            message = 'majority needs answers that can be compared: set "answer" to their kind, or choose another verifier'
            raise UnsupportedTask(message, parameter="verifier")

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """In [0, 1]; a candidate without a readable answer has no votes."""
        ballot = await count(task, candidates, self.context.equivalence)
        votes = {member.index: len(group.members) for group in ballot.groups for member in group.members}
        return [
            (votes.get(candidate.index, 0) + mean_probability(candidate)) / (len(candidates) + 1) for candidate in candidates
        ]
