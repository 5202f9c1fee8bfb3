"""The texts of single tokens that a front end remembers."""

import pytest

from app.engine.vllm.token_texts import TokenTexts


class Tokenizer:
    """Writes each token as its number, and counts how often it is asked."""

    vocab_size = 10

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = False) -> str:
        self.asked.append(tuple(token_ids))
        return "" if skip_special_tokens else " ".join(map(str, token_ids))


def test_a_token_is_decoded_once() -> None:
    """Several tokens together, and other ways to write one, are asked of the tokenizer each time."""
    tokenizer = Tokenizer()
    texts = TokenTexts(tokenizer)
    assert [texts.decode([5]), texts.decode([5]), texts.decode([5, 6]), texts.decode([5, 6])] == ["5", "5", "5 6", "5 6"]
    assert texts.decode([5], skip_special_tokens=True) == ""
    assert tokenizer.asked == [(5,), (5, 6), (5, 6), (5,)]


def test_everything_else_is_the_tokenizers() -> None:
    """Also what is missing."""
    texts = TokenTexts(Tokenizer())
    assert texts.vocab_size == 10
    with pytest.raises(AttributeError):
        texts.nothing  # noqa: B018
