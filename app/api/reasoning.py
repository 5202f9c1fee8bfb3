"""Leaves the reasoning out of a reply: its text, the ids of its tokens, and their log-probabilities."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from strategies.core.values import Candidate, Delta, TokenLogprob


class Shown(NamedTuple):
    """What a caller sees of a reply, or of a piece of it: fields of the message, and its tokens."""

    fields: Mapping[str, Any]
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]


def without_reasoning(fields: Mapping[str, Any], piece: Candidate | Delta, *, has_answer: bool = False) -> Shown:
    """Return what is left of a reply without its reasoning.

    The tokens of a piece in which both the reasoning and the answer stand are told apart by their texts. Without log-probabilities they
    have no texts, and such a piece is left without tokens.

    Args:
        fields: of the message, as the parser has read them from the piece.
        piece: a whole reply, or the next piece of a stream.
        has_answer: whether the answer began in a piece before. Until then, a piece without a field may belong to the reasoning.

    """
    reasoning = fields.get("reasoning")
    rest = {name: value for name, value in fields.items() if name != "reasoning"}
    if has_answer or (is_answer(rest) and not reasoning):
        return Shown(rest, piece.token_ids, piece.logprobs)
    logprobs = _behind(reasoning or "", piece.logprobs) if is_answer(rest) else ()
    return Shown(rest, piece.token_ids[len(piece.token_ids) - len(logprobs) :], logprobs)


def is_answer(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of a message have more than reasoning."""
    return bool(fields.get("content") or fields.get("tool_calls"))


def _behind(reasoning: str, logprobs: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...]:
    """Return the tokens behind a text that stands among them; none where it cannot be found."""
    place = "".join(one.token for one in logprobs).find(reasoning)
    ends = accumulate(len(one.token) for one in logprobs)
    first = place + len(reasoning)
    if place < 0:
        return ()
    return tuple(one for one, end in zip(logprobs, ends, strict=True) if end - len(one.token) >= first)
