"""Counts the tokens of a branch that are thinking."""

from collections.abc import Callable, Sequence

from app.serving.seams import CHAR_REST
from strategies.core.thinking import Thinking

Decode = Callable[[Sequence[int]], str]
"""A function from token ids to their text, special tokens included."""


def num_thinking(thinking: Thinking, text: str, token_ids: Sequence[int], decode: Decode) -> int:
    """Return how many of the first tokens are thinking, marks included.

    Args:
        thinking: how the model marks its thinking behind the prefix of the branch.
        text: what the branch generated.
        token_ids: the tokens of this text.
        decode: returns the text of tokens.

    """
    thought, answer = thinking.split(text)
    if answer is None:
        return len(token_ids)
    if not thought and answer == text:
        return 0
    if len(thinking.end_ids) == 1 and thinking.end_ids[0] in token_ids:  # most vocabularies have a token for it
        return token_ids.index(thinking.end_ids[0]) + 1
    # The model may write the end with other tokens than `end_ids`, and its last token may have text of the answer. The search by halves
    # decodes each half alone, with so many tokens before it that a whole end is seen.
    low, high, before = 0, len(token_ids), len(thinking.end) + CHAR_REST
    while high - low > 1:
        middle = (low + high) // 2
        has_end = thinking.end in decode(token_ids[max(low - before, 0) : middle])
        low, high = (low, middle) if has_end else (middle, high)
    return high
