"""Answers as a pool keeps them: made of candidates, and read as candidates again."""

from typing import Any

from app.routing.pool_file import DECIMALS, Generation, Sample, ThinkingMarks
from strategies.core.thinking import Thinking
from strategies.core.values import Candidate, TokenLogprob
from strategies.voting.confidence import GroupConfidence, entropy, margin

FIRST_TOKENS = 32
"""The number of the greedy answer's first tokens whose margins and entropies are recorded."""

FIRST_ALTERNATIVES = 5
"""The most probable tokens that an entropy is computed from."""


def candidate_of(generation: Generation) -> Candidate:
    """Return a generation as a strategy sees it. Where a token has a confidence, one alternative stands for all: they have its mean."""
    texts, place = [], 0
    for length in generation.lengths:
        texts.append(generation.text[place : place + length])
        place += length
    confidences = generation.confidences or [None] * len(texts)
    tokens = zip(texts, generation.token_ids, generation.logprobs, confidences, strict=True)
    logprobs = tuple(
        TokenLogprob(text, token_id, logprob, () if confidence is None else (("", -confidence),))
        for text, token_id, logprob, confidence in tokens
    )
    return Candidate(0, generation.text, generation.token_ids, generation.finish_reason, generation.stop_reason, logprobs)


def generation_fields(candidate: Candidate, *, is_right: bool, alternatives: int = 0) -> dict[str, Any]:
    """Return the fields of the `Generation` that a candidate becomes.

    Args:
        candidate: with its log-probabilities.
        is_right: whether it is right; False where nobody knows.
        alternatives: the most probable tokens that the confidence in a token is the mean of; 0 records no confidences.

    """
    return {
        "text": candidate.text,
        "token_ids": candidate.token_ids,
        "lengths": tuple(len(entry.token) for entry in candidate.logprobs),
        "logprobs": tuple(round(entry.logprob, DECIMALS) for entry in candidate.logprobs),
        "confidences": _confidences(candidate, alternatives) if alternatives else (),
        "finish_reason": candidate.finish_reason,
        "stop_reason": candidate.stop_reason,
        "cached": candidate.cost.cached_tokens,
        "is_right": is_right,
    }


def _confidences(candidate: Candidate, alternatives: int) -> tuple[float | None, ...]:
    of_token = GroupConfidence(alternatives, 1).of_token
    return tuple(round(of_token(entry), DECIMALS) if entry.top else None for entry in candidate.logprobs)


def with_first_tokens(greedy: Sample, candidate: Candidate, num: int = FIRST_TOKENS) -> Sample:
    """Return a greedy answer with margins and entropies of its first `num` tokens, from the alternatives of its candidate."""
    first = [one for one in candidate.logprobs if one.top][:num]
    return greedy.model_copy(
        update={
            "margins": tuple(round(margin(one), DECIMALS) for one in first),
            "entropies": tuple(round(entropy(one), DECIMALS) for one in first),
        }
    )


def marks_of(thinking: Thinking | None) -> ThinkingMarks | None:
    """Return how a model marks its thinking, as a pool keeps it."""
    if thinking is None:
        return None
    return ThinkingMarks(start=thinking.start, end=thinking.end, is_open=thinking.is_open)
