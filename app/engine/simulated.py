"""What the scripted engine simulates beside the model: a tokenizer of words, and a prefix cache."""

import itertools
import re
from collections.abc import Sequence

from app.engine.base import Repetition

WORD = re.compile(r"\s*\S+|\s+$")
"""A token: a word with the white space before it, or the white space at the end of a text."""

BLOCK = 16
"""Tokens in a block of the prefix cache."""


def words_of(text: str) -> list[str]:
    """Split a text into tokens, so that joining them gives the text back."""
    return WORD.findall(text)


def loop_end(words: Sequence[str], loop: Repetition) -> int | None:
    """Return after how many words these have become a loop, None if they do not: the rule of vLLM's `repetition_detection`."""

    def is_loop(end: int, size: int) -> bool:
        round_ = words[end - size : end]
        return all(words[end - size * count : end - size * (count - 1)] == round_ for count in range(2, loop.min_count + 1))

    for end in range(1, len(words) + 1):
        sizes = range(max(loop.min_pattern_size, 1), min(loop.max_pattern_size, end // max(loop.min_count, 1)) + 1)
        if loop.min_count > 1 and any(is_loop(end, size) for size in sizes):
            return end
    return None


class WordTokenizer:
    """Gives each word an id when it first comes up."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def id_of(self, word: str) -> int:
        """Return the id of one word."""
        if word not in self._ids:
            self._ids[word] = len(self._words)
            self._words.append(word)
        return self._ids[word]

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of the words of a text."""
        return tuple(self.id_of(word) for word in words_of(text))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of these ids; raises `IndexError` for an id that was never given."""
        return "".join(self._words[token] for token in token_ids)


class PrefixCache:
    """Remembers which prefixes were computed, in whole blocks and by salt, as vLLM's prefix cache does."""

    def __init__(self) -> None:
        self._computed_by: dict[tuple[str | None, tuple[int, ...]], str] = {}

    def use(self, prefix: tuple[int, ...], salt: str | None, adapter: str) -> tuple[int, str]:
        """Look a prefix up, and keep it as computed by this adapter (empty: the base model) where it is new.

        Adapters with one salt share blocks. So tests see what happens when an adapter is replaced and its cache salt is not.

        Returns:
            How many of its tokens were cached, always fewer than it has; and the adapter that computed its first block.

        """
        keys = [(salt, prefix[:end]) for end in range(BLOCK, len(prefix), BLOCK)]
        hits = sum(1 for _ in itertools.takewhile(self._computed_by.__contains__, keys))
        for key in keys:
            self._computed_by.setdefault(key, adapter)
        return hits * BLOCK, self._computed_by[keys[0]] if keys else adapter
