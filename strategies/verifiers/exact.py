"""What exact verifiers share: a complete answer scores 1 or 0, and of others nothing can be said yet."""

from collections.abc import Sequence

from strategies.core.values import Candidate

UNKNOWN = 0.5
"""The score of an answer that is not complete: it may still become right."""


def exact_scores(candidates: Sequence[Candidate], are_right: Sequence[bool]) -> list[float]:
    """Return one score for each candidate; `are_right` says it for the complete ones, in their order."""
    remaining = iter(are_right)
    return [float(next(remaining)) if candidate.is_complete else UNKNOWN for candidate in candidates]
