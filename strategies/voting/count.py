"""A vote over canonical answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from strategies.answers.reading import read_answer
from strategies.core.ports import AnswerEquivalence
from strategies.core.values import AnswerKind, Candidate, Task


def mean_logprob(candidate: Candidate, start: int = 0) -> float:
    """Mean log-probability of a candidate's tokens from `start` on; minus infinity where there are none to tell."""
    entries = [entry for entry in candidate.logprobs[start:] if not entry.is_given]
    if not entries:
        return float("-inf")
    return sum(entry.logprob for entry in entries) / len(entries)


def mean_probability(candidate: Candidate, start: int = 0) -> float:
    """The geometric mean of their probabilities, in [0, 1]: by length, so that short is not better as such."""
    return min(math.exp(mean_logprob(candidate, start)), 1.0)


@dataclass(slots=True)
class AnswerGroup:
    """Candidates with the same answer, in the order in which they were counted."""

    answer: str
    members: list[Candidate] = field(default_factory=list)
    _total: float = 0.0

    def add(self, candidate: Candidate) -> None:
        """One more."""
        self.members.append(candidate)
        self._total += mean_logprob(candidate)  # now, not at each ranking: a long search ranks after every expansion

    @property
    def likelihood(self) -> float:
        """Mean over its members, to break ties."""
        return self._total / len(self.members)

    @property
    def best(self) -> Candidate:
        """Its most likely member, the first of equals."""
        return max(self.members, key=mean_logprob)


class VoteCount:
    """Groups candidates by answer, asking `AnswerEquivalence` whether two answers are the same.

    A truncated candidate has no vote: where a chain of thought was cut, its last number is not its answer. Nor has one that is vetoed.
    Only when nobody else voted do those set aside vote (`count_set_aside`), since something must be answered.
    """

    def __init__(self, task: Task, equivalence: AnswerEquivalence) -> None:
        self._task = task
        self._equivalence = equivalence
        self._by_spelling: dict[str, AnswerGroup] = {}
        self.groups: list[AnswerGroup] = []
        self.answers: dict[int, str | None] = {}
        self._set_aside: list[Candidate] = []

    async def add(self, candidate: Candidate, *, is_vetoed: bool = False) -> str | None:
        """Count a candidate; its answer in the spelling of its group, None for those that have no vote."""
        if is_vetoed or not candidate.is_complete:
            self._set_aside.append(candidate)
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

    async def count_set_aside(self) -> None:
        """Where nobody has voted, let those vote that were set aside: the whole ones if there are any."""
        if not self.groups:
            for candidate in [one for one in self._set_aside if one.is_complete] or self._set_aside:
                await self._vote(candidate)

    def ranked(self, weights: dict[int, float] | None = None) -> list[AnswerGroup]:
        """Groups by weight (one a vote by default), ties by likelihood, then by who came first."""

        def weight(group: AnswerGroup) -> float:
            return sum(1.0 if weights is None else weights[member.index] for member in group.members)

        return sorted(self.groups, key=lambda group: (weight(group), group.likelihood), reverse=True)

    def counts(self) -> tuple[int, int]:
        """Votes of the leader and of the runner-up."""
        sizes = sorted((len(group.members) for group in self.groups), reverse=True)
        leader, runner_up, *_ = [*sizes, 0, 0]
        return leader, runner_up


async def count(task: Task, candidates: Sequence[Candidate], equivalence: AnswerEquivalence) -> VoteCount:
    """The ballot of candidates that are all there already."""
    ballot = VoteCount(task, equivalence)
    for candidate in candidates:
        await ballot.add(candidate)
    await ballot.count_set_aside()
    return ballot
