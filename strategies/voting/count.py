"""A vote over canonical answers."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from strategies.answers.reading import read_answer
from strategies.core.ports import AnswerEquivalence
from strategies.core.values import AnswerKind, Candidate, Task


def mean_logprob(candidate: Candidate, start: int = 0) -> float:
    """Return the mean log-probability of a candidate's own tokens from `start` on; minus infinity if it has none."""
    entries = [entry for entry in candidate.logprobs[start:] if not entry.is_inserted]
    if not entries:
        return float("-inf")
    return sum(entry.logprob for entry in entries) / len(entries)


def mean_probability(candidate: Candidate, start: int = 0) -> float:
    """Return the geometric mean of the same tokens' probabilities, in [0, 1].

    A mean by length, so that a short candidate is not better only because it is short.
    """
    return min(math.exp(mean_logprob(candidate, start)), 1.0)


@dataclass(slots=True)
class AnswerGroup:
    """Candidates with the same answer, in the order in which they were counted."""

    answer: str
    members: list[Candidate] = field(default_factory=list)
    _total: float = 0.0

    def add(self, candidate: Candidate) -> None:
        """Add a member."""
        self.members.append(candidate)
        # the sum is kept, because a long search ranks the groups after every expansion
        self._total += mean_logprob(candidate)

    def among(self, indices: Collection[int]) -> "AnswerGroup":
        """Return the group of those members whose indices are given."""
        if all(member.index in indices for member in self.members):
            return self
        group = AnswerGroup(self.answer)
        for member in self.members:
            if member.index in indices:
                group.add(member)
        return group

    def weight(self, weights: dict[int, float] | None) -> float:
        """Return the sum of its members' weights, 1 each by default."""
        return sum(1.0 if weights is None else weights[member.index] for member in self.members)

    @property
    def likelihood(self) -> float:
        """The mean of its members' mean log-probabilities, which breaks ties."""
        return self._total / len(self.members)

    @property
    def best(self) -> Candidate:
        """Its most likely member, the first of equals."""
        return max(self.members, key=mean_logprob)


class VoteCount:
    """Groups candidates by answer, asking `AnswerEquivalence` whether two answers are the same.

    A candidate that was cut has no vote: where a chain of thought ends too early, its last number is not its answer. A filtered candidate
    has none either. If no other candidate has voted, these vote after all (`count_filtered`), since something must be answered.

    Attributes:
        groups: by answer, in the order of their first votes.
        answers: of each candidate by index, in the spelling of its group; None for those without a vote.

    """

    def __init__(self, task: Task, equivalence: AnswerEquivalence) -> None:
        self._task = task
        self._equivalence = equivalence
        self._by_spelling: dict[str, AnswerGroup] = {}
        self.groups: list[AnswerGroup] = []
        self.answers: dict[int, str | None] = {}
        self._filtered: list[Candidate] = []

    async def add(self, candidate: Candidate, *, is_filtered: bool = False) -> str | None:
        """Count a candidate; return its answer in the spelling of its group, None if it has no vote."""
        if is_filtered or not candidate.is_complete:
            self._filtered.append(candidate)
            self.answers[candidate.index] = None
            return None
        return await self._vote(candidate)

    async def _vote(self, candidate: Candidate) -> str | None:
        kind = self._task.kind
        answer = None if kind is AnswerKind.OPEN else read_answer(kind, self._task.read(candidate))
        self.answers[candidate.index] = answer
        if answer is None:
            return None
        group = self._by_spelling.get(answer) or await self._find(answer)
        self._by_spelling[answer] = group
        group.add(candidate)
        self.answers[candidate.index] = group.answer
        return group.answer

    async def _find(self, answer: str) -> AnswerGroup:
        for group in self.groups:
            if await self._equivalence.same(self._task.kind, answer, group.answer):
                return group
        self.groups.append(AnswerGroup(answer))
        return self.groups[-1]

    async def count_filtered(self) -> None:
        """If no candidate has voted, let those without a vote vote: the whole ones if there are any, else those that were cut.

        One that a watch has cut (finish reason "cut") never votes: how far it came depends on the engine's speed.
        """
        if not self.groups:
            for candidate in [one for one in self._filtered if one.is_complete] or self._filtered:
                if candidate.finish_reason == "cut":
                    continue
                await self._vote(candidate)

    def ranked(self, weights: dict[int, float] | None = None) -> list[AnswerGroup]:
        """Return the groups by the sum of their members' weights (1 each by default), ties by likelihood, then by first vote.

        Members without a weight are left out, and groups without members.
        """
        groups = self.groups if weights is None else [one for group in self.groups if (one := group.among(weights)).members]
        return sorted(groups, key=lambda group: (group.weight(weights), group.likelihood), reverse=True)

    def leading_share(self, weights: dict[int, float] | None = None) -> float:
        """Return the leader's share of the weight of all votes, from 0 to 1; 0 where nothing weighs anything."""
        totals = [group.weight(weights) for group in self.ranked(weights)]
        return totals[0] / sum(totals) if any(totals) else 0.0

    def counts(self) -> tuple[int, int]:
        """Return the votes of the leader and of the runner-up."""
        sizes = sorted((len(group.members) for group in self.groups), reverse=True)
        leader, runner_up, *_ = [*sizes, 0, 0]
        return leader, runner_up


async def count_votes(task: Task, candidates: Sequence[Candidate], equivalence: AnswerEquivalence) -> VoteCount:
    """Return the vote of candidates that have all been drawn."""
    votes = VoteCount(task, equivalence)
    for candidate in candidates:
        await votes.add(candidate)
    await votes.count_filtered()
    return votes
