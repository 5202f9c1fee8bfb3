"""Tokens that the server writes for a branch."""

from collections.abc import Sequence

from app.serving.seams import is_whole
from app.serving.thinking_tokens import Decode
from strategies.core.values import TokenLogprob


def inserted(token_ids: Sequence[int], decode: Decode) -> tuple[TokenLogprob, ...]:
    """Return these tokens as inserted ones. The text of a character that has several tokens stands at the last of them."""
    entries, before = [], ""
    for num, token_id in enumerate(token_ids, 1):
        text = decode(token_ids[:num])
        entries.append(TokenLogprob(text[len(before) :] if is_whole(text) else "", token_id, 0.0, is_inserted=True))
        before = text if is_whole(text) else before
    return tuple(entries)
