"""How many tokens of a branch are thinking."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.serving.thinking_tokens import num_thinking
from strategies.core.thinking import Thinking

OPEN = Thinking("<think>", "</think>", (1, 2))
CLOSED = Thinking("<think>", "</think>", (1, 2), is_open=False)


class Bytes:
    """A tokenizer of pieces of bytes; a character that is not whole is shown by a replacement. Counts the tokens that it decodes."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self.ids = tuple(range(len(pieces)))
        self.num_decoded = 0

    def decode(self, token_ids: Sequence[int]) -> str:
        self.num_decoded += len(token_ids)
        return b"".join(self._pieces[one] for one in token_ids).decode(errors="replace")


def cut(text: str, places: Sequence[int]) -> Bytes:
    """A text in pieces that end at these places, wherever in a character or a mark they are."""
    data = text.encode()
    ends = sorted({one % len(data) for one in places if one % len(data)} | {len(data)})
    return Bytes([data[first:end] for first, end in zip((0, *ends), ends, strict=False)])


@given(
    thought=st.text("ab </think>é🙂\n", max_size=30).filter(lambda text: "think>" not in text),
    answer=st.text("42 é</think>", max_size=12),
    opens=st.booleans(),
    places=st.lists(st.integers(0, 200), max_size=40),
)
def test_the_first_tokens_up_to_the_end_of_the_thinking_are_counted(
    thought: str, answer: str, *, opens: bool, places: list[int]
) -> None:
    """To the token that completes its end, however the text is cut into tokens."""
    thinking = OPEN if opens else CLOSED
    text = ("" if opens else "<think>") + thought + "</think>" + answer
    pieces = cut(text, places)
    num = num_thinking(thinking, text, pieces.ids, pieces.decode)
    assert "</think>" in pieces.decode(pieces.ids[:num])
    assert "</think>" not in pieces.decode(pieces.ids[: num - 1])


def test_counting_takes_linear_time() -> None:
    """Each token of a long thought is decoded about twice."""
    text = " a" * 50_000 + "</think> 42"
    pieces = cut(text, range(0, len(text), 2))
    assert num_thinking(OPEN, text, pieces.ids, pieces.decode) == 50_004
    assert pieces.num_decoded < 2 * len(pieces.ids) + 1_000


def test_what_does_not_think_has_no_thinking_tokens() -> None:
    """And what does not end its thinking has no others."""
    pieces = cut("an answer", range(9))
    assert num_thinking(CLOSED, "an answer", pieces.ids, pieces.decode) == 0
    assert num_thinking(OPEN, "an answer", pieces.ids, pieces.decode) == len(pieces.ids)
