"""From scored candidates to the answers that are given."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from strategies.core.ports import AnswerEquivalence
from strategies.core.results import NodeState, Result, TraceNode
from strategies.core.values import Candidate, ScoredCandidate, Task
from strategies.voting.count import VoteCount, count

By = Literal["score", "vote"]


async def choose(
    task: Task,
    candidates: Sequence[Candidate],
    scores: Mapping[int, float],
    equivalence: AnswerEquivalence,
    by: By,
    *,
    preferred: Collection[int] = (),
) -> tuple[tuple[ScoredCandidate, ...], tuple[ScoredCandidate, ...]]:
    """The answers, best first, and all candidates with their answers and scores, both in the order of their indices.

    `score`: the best distinct candidates, a truncated one only after all that are whole. `vote`: weighted best-of-n, the answer a with
    the highest sum of the scores of the candidates that give it (Li et al. 2023, FIELD A1), represented by its best candidate; where no
    answer can be read, by score. Those `preferred` come before all others that are whole.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.index)
    ballot = await count(task, ordered, equivalence)
    scored = tuple(ScoredCandidate(one, ballot.answers[one.index], scores.get(one.index)) for one in ordered)
    if by == "vote" and ballot.groups:
        return _by_vote(scored, scores, ballot)[: task.num_choices], scored
    return _by_score(scored, preferred, has_votes=bool(ballot.groups))[: task.num_choices], scored


def _by_vote(
    scored: tuple[ScoredCandidate, ...], scores: Mapping[int, float], ballot: VoteCount
) -> tuple[ScoredCandidate, ...]:
    by_index = {one.candidate.index: one for one in scored}
    weights = {index: scores.get(index, 0.0) for index in by_index}
    groups = ([by_index[member.index] for member in group.members] for group in ballot.ranked(weights))
    return tuple(max(members, key=lambda one: one.score or 0.0) for members in groups)


def _by_score(
    scored: tuple[ScoredCandidate, ...], preferred: Collection[int], *, has_votes: bool
) -> tuple[ScoredCandidate, ...]:
    def rank(one: ScoredCandidate) -> tuple[bool, bool, bool, float, int]:
        index = one.candidate.index
        has_answer = has_votes and one.answer is not None
        return one.candidate.is_complete, index in preferred, has_answer, one.score or 0.0, -index

    distinct: dict[str, ScoredCandidate] = {}
    for one in sorted(scored, key=rank, reverse=True):
        distinct.setdefault(one.answer if one.answer is not None else one.candidate.text, one)
    return tuple(distinct.values())


def leaf(scored: ScoredCandidate, result: Result | None = None) -> TraceNode:
    """A candidate as a node of a tree that has no more than leaves; `result` says whether it was chosen."""
    candidate = scored.candidate
    return TraceNode(
        id=candidate.index,
        parent=None,
        text=candidate.text,
        tokens=len(candidate.token_ids),
        state=NodeState.CHOSEN if result is not None and scored in result.chosen else NodeState.FINAL,
        verdict=scored.score,
        value=scored.score,
        answer=scored.answer,
        finish_reason=candidate.finish_reason,
        cost=candidate.cost,
    )


def opening_words(text: str, length: int = 60) -> str:
    """The beginning of a text, for a line of progress."""
    text = " ".join(text[: 4 * length].split())
    return text if len(text) <= length else text[: length - 1] + "…"
