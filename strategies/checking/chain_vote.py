"""The vote of chains (`strategies.checking.chains`): those with a false line have none unless nobody else has."""

from collections.abc import Sequence
from dataclasses import dataclass

from strategies.checking.chains import Chain, Writer
from strategies.core.ports import AnswerEquivalence
from strategies.core.results import Result
from strategies.core.values import Candidate, ScoredCandidate, StopReason, Task
from strategies.voting.count import AnswerGroup, VoteCount, mean_logprob


@dataclass(frozen=True, slots=True)
class Vote:
    """What chains say at a moment.

    Attributes:
        ranked: answers by votes, most first.

    """

    task: Task
    chains: Sequence[Chain]
    ballot: VoteCount
    ranked: Sequence[AnswerGroup]

    @property
    def leader(self) -> Candidate | None:
        """Would be the answer now; where nothing can be read from any, a sound one, or a whole one, the most likely of them."""
        if self.ranked:
            return self.ranked[0].best
        best = max(self.chains, key=lambda one: (one.is_sound, one.answer.is_complete, mean_logprob(one.answer)), default=None)
        return None if best is None else best.answer

    def line(self) -> str:
        """For whoever watches."""
        if not self.ranked:
            return f"{len(self.chains)} candidates, no answer can be read"
        return f"{len(self.chains)} candidates, leading: {self.ranked[0].answer} with {len(self.ranked[0].members)}"

    def result(self, writer: Writer, stop: StopReason) -> Result:
        """The answers, best first."""
        votes = sum(len(group.members) for group in self.ranked)
        shares = {member.index: len(group.members) / votes for group in self.ranked for member in group.members}
        scored = {
            one.index: ScoredCandidate(one, self.ballot.answers[one.index], shares.get(one.index))
            for one in sorted((chain.answer for chain in self.chains), key=lambda one: one.index)
        }
        chosen = [scored[group.best.index] for group in self.ranked]
        if not chosen and self.leader is not None:
            others = [one for one in scored.values() if one.candidate.index != self.leader.index]
            chosen = [scored[self.leader.index], *others]
        chosen = chosen[: self.task.num_choices]
        nodes = writer.nodes(scored, [one.candidate.index for one in chosen])
        return Result(tuple(chosen), tuple(scored.values()), stop, nodes)


async def vote(task: Task, writer: Writer, equivalence: AnswerEquivalence) -> Vote:
    """Count all votes anew: a wave may have given a vote to some that had none, or taken it from others."""
    ballot, chains = VoteCount(task, equivalence), writer.chains
    for chain in chains:
        await ballot.add(chain.answer, is_vetoed=not chain.is_sound)
    await ballot.count_set_aside()
    return Vote(task, chains, ballot, ballot.ranked())
