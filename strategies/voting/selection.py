"""From scored candidates to the answers that are returned."""

from collections.abc import Collection, Mapping, Sequence

from strategies.core.parameters import Select
from strategies.core.ports import AnswerEquivalence
from strategies.core.results import NodeState, Result, TraceNode
from strategies.core.values import Candidate, ScoredCandidate, Task
from strategies.voting.count import VoteCount, count_votes


async def choose(
    task: Task,
    candidates: Sequence[Candidate],
    scores: Mapping[int, float],
    equivalence: AnswerEquivalence,
    select: Select,
    *,
    preferred: Collection[int] = (),
) -> tuple[tuple[ScoredCandidate, ...], tuple[ScoredCandidate, ...]]:
    """Return the chosen answers, best first, and all candidates with their answers and scores, by index.

    `score` chooses the best distinct candidates, a cut one only after all whole ones. `vote` is weighted best-of-n (Li et al. 2023,
    arXiv 2206.02336): the answer a with the highest sum of the scores of the candidates that give it, represented by its best candidate.
    Where no answer can be read, `vote` chooses by score.

    Args:
        task: says how answers are read and how many are returned.
        candidates: to choose from.
        scores: in [0, 1], by the index of the candidate; a missing score counts as 0.
        equivalence: tells which answers are the same.
        select: the way of choosing.
        preferred: indices of candidates that come before all others that are whole.

    """
    ordered = sorted(candidates, key=lambda candidate: candidate.index)
    votes = await count_votes(task, ordered, equivalence)
    scored = tuple(ScoredCandidate(one, votes.answers[one.index], scores.get(one.index)) for one in ordered)
    if select == "vote" and votes.groups:
        return _by_vote(scored, scores, votes)[: task.num_choices], scored
    return _by_score(task, scored, preferred, has_votes=bool(votes.groups))[: task.num_choices], scored


def _by_vote(scored: tuple[ScoredCandidate, ...], scores: Mapping[int, float], votes: VoteCount) -> tuple[ScoredCandidate, ...]:
    by_index = {one.candidate.index: one for one in scored}
    weights = {index: scores.get(index, 0.0) for index in by_index}
    groups = ([by_index[member.index] for member in group.members] for group in votes.ranked(weights))
    return tuple(max(members, key=lambda one: one.score or 0.0) for members in groups)


def _by_score(
    task: Task, scored: tuple[ScoredCandidate, ...], preferred: Collection[int], *, has_votes: bool
) -> tuple[ScoredCandidate, ...]:
    def rank(one: ScoredCandidate) -> tuple[int, bool, bool, float, int]:
        index = one.candidate.index
        has_answer = has_votes and one.answer is not None
        return one.candidate.completeness, index in preferred, has_answer, one.score or 0.0, -index

    distinct: dict[str, ScoredCandidate] = {}
    for one in sorted(scored, key=rank, reverse=True):
        text = task.read(one.candidate) or one.candidate.text
        distinct.setdefault(one.answer if one.answer is not None else text, one)
    return tuple(distinct.values())


def candidate_node(scored: ScoredCandidate, result: Result | None = None) -> TraceNode:
    """Return a candidate as a node right below the prompt; `result` says whether it was chosen."""
    candidate = scored.candidate
    return TraceNode(
        id=candidate.index,
        parent=None,
        text=candidate.text,
        tokens=len(candidate.token_ids),
        state=_state(scored, result),
        score=scored.score,
        value=scored.score,
        answer=scored.answer,
        finish_reason=candidate.finish_reason,
        cost=candidate.cost,
    )


def _state(scored: ScoredCandidate, result: Result | None) -> NodeState:
    if result is not None and scored in result.chosen:
        return NodeState.CHOSEN
    return NodeState.PRUNED if scored.candidate.finish_reason == "cut" else NodeState.FINAL


def opening_words(text: str, length: int = 60) -> str:
    """Return the beginning of a text, on one line of at most `length` characters, for a progress report."""
    text = " ".join(text[: 4 * length].split())  # white space may fill much of a text, but is only looked at so far
    return text if len(text) <= length else text[: length - 1] + "…"
