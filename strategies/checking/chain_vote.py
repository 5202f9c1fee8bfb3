"""The vote of chains (`strategies.checking.chains`). A chain with a false line has no vote unless no other chain has one."""

from collections.abc import Sequence
from dataclasses import dataclass

from strategies.checking.chains import Chain, Writer
from strategies.core.ports import AnswerEquivalence
from strategies.core.results import Result
from strategies.core.values import Candidate, ScoredCandidate, StopReason, Task
from strategies.voting.count import AnswerGroup, VoteCount, mean_logprob


@dataclass(frozen=True, slots=True)
class ChainVote:
    """The vote of all chains at one moment.

    Attributes:
        task: that the chains answer.
        chains: those with an attempt, by number.
        votes: the count.
        ranked: answers by votes, the most first.

    """

    task: Task
    chains: Sequence[Chain]
    votes: VoteCount
    ranked: Sequence[AnswerGroup]

    @property
    def leader(self) -> Candidate | None:
        """The candidate that would be returned now; None if there is none.

        If no answer can be read from any chain: a sound one, else a whole one, and the most likely of these.
        """
        if self.ranked:
            return self.ranked[0].best
        best = max(self.chains, key=lambda one: (one.is_sound, one.answer.completeness, mean_logprob(one.answer)), default=None)
        return None if best is None else best.answer

    def line(self) -> str:
        """Return one line about the vote, for callers who watch it."""
        if not self.ranked:
            return f"{len(self.chains)} candidates, no answer can be read"
        return f"{len(self.chains)} candidates, leading: {self.ranked[0].answer} with {len(self.ranked[0].members)}"

    def result(self, writer: Writer, stop: StopReason) -> Result:
        """Return the answers by votes; the score of a candidate is its answer's share of the votes."""
        num_votes = sum(len(group.members) for group in self.ranked)
        shares = {member.index: len(group.members) / num_votes for group in self.ranked for member in group.members}
        scored = {
            one.index: ScoredCandidate(one, self.votes.answers[one.index], shares.get(one.index))
            for one in sorted((chain.answer for chain in self.chains), key=lambda one: one.index)
        }
        chosen = [scored[group.best.index] for group in self.ranked]
        if not chosen and self.leader is not None:
            others = [one for one in scored.values() if one.candidate.index != self.leader.index]
            chosen = [scored[self.leader.index], *others]
        chosen = chosen[: self.task.num_choices]
        nodes = writer.nodes(scored, [one.candidate.index for one in chosen])
        return Result(tuple(chosen), tuple(scored.values()), stop, nodes)


async def vote_of_chains(task: Task, writer: Writer, equivalence: AnswerEquivalence) -> ChainVote:
    """Return the vote of all chains, counted anew: since the last wave a chain may have won or lost its vote."""
    votes, chains = VoteCount(task, equivalence), writer.chains
    for chain in chains:
        await votes.add(chain.answer, is_filtered=not chain.is_sound)
    await votes.count_filtered()
    return ChainVote(task, chains, votes, votes.ranked())
