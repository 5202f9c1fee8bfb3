"""Finds answers that loop over several steps. The engine looks for loops too, but only within the tokens of one call."""

from collections.abc import Sequence

ROUNDS = 4
SIZES = range(16, 33)
"""A loop is so many equal rounds in a row, each of so many tokens: the rule that the engine is told by default."""


def ends_in_loop(token_ids: Sequence[int]) -> bool:
    """Return whether the last tokens are a loop. Shorter rounds are found as well, since several of them are one of 16 to 32 tokens."""
    num = len(token_ids)
    return any(
        token_ids[num - ROUNDS * size : num - size] == token_ids[num - (ROUNDS - 1) * size :]
        for size in SIZES
        if num >= ROUNDS * size
    )
