"""A tokenizer that remembers the texts of single tokens."""

from collections.abc import Sequence
from typing import Any


class TokenTexts:
    """A tokenizer in whose place vLLM reads the texts of tokens with log-probabilities, one by one.

    A front end over many replicas reads tens of thousands a second, of a vocabulary that is not larger. Everything else is the
    tokenizer's own.

    Args:
        tokenizer: of the model.

    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}

    def decode(self, token_ids: Sequence[int], *arguments: Any, **options: Any) -> str:
        """Return the text of these tokens."""
        if len(token_ids) != 1 or arguments or options:
            return str(self._tokenizer.decode(token_ids, *arguments, **options))
        [token] = token_ids
        if (text := self._texts.get(token)) is None:
            text = self._texts[token] = self._tokenizer.decode([token])
        return text

    def __getattr__(self, name: str) -> Any:
        """Return what the tokenizer has."""
        return getattr(self._tokenizer, name)
