"""Where an answer is in its thinking, from the tokens that follow its prompt: the arithmetic of legs."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.legs import ThinkingBudget
from app.serving.places import BEHIND, Leg, Place, Room
from strategies.core.thinking import Thinking

START, END = "<think>", "</think>"
END_OF_TURN = 0x10FFFF
PIECES = st.lists(st.sampled_from(["<", "a", " ", "th", "</", "ink>", "\n", "think", ">", "é"]), max_size=12)


def decode(token_ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are characters, so that a mark has many."""
    return "".join(chr(token) for token in token_ids if token != END_OF_TURN)


def encode(text: str) -> tuple[int, ...]:
    return tuple(ord(char) for char in text)


def budget(tokens: int = 10, *, is_open: bool = True, stop: tuple[str, ...] = ()) -> ThinkingBudget:
    thinking = Thinking(START, END, encode(END), is_open=is_open)
    return ThinkingBudget(tokens, thinking, decode, encode, frozenset({END_OF_TURN}), stop)


ROOM = Room(10_000, 10_000)


def place_of(held: ThinkingBudget, text: str) -> Place:
    """Where an answer begins its next leg that continues this text."""
    return held.begin(held.place(encode(text)), encode(text), ROOM)


def inside(thought: int, tokens: int = 10) -> Place:
    """Within a thinking of so many tokens."""
    return Place(END, tokens - thought, thought)


def cut(written: str = END) -> Place:
    """Behind a thinking that the server has ended."""
    return Place(event="cut", written=encode(written))


@pytest.mark.parametrize(
    ("text", "place"),
    [("", Place(START, 1)), ("\n", Place(START, 1)), ("<thi", Place(START, 1)), ("<think>", inside(0)), ("4", BEHIND)],
)
def test_the_start_is_awaited_token_by_token_where_no_stop_string_is_looked_for(text: str, place: Place) -> None:
    """Below `min_tokens` the engine would not stop there, and the thinking would go on without a budget."""
    held = replace(budget(is_open=False), min_tokens=3)
    assert place_of(held, text) == place
    if text:
        leg = Leg(text[-1], encode(text[-1]), "length")
        following = held.after(held.place(encode(text[:-1])), leg, encode(text), ROOM)
        assert following is not None
        assert held.begin(following, encode(text), ROOM) == place


@pytest.mark.parametrize(
    ("is_open", "text", "place"),
    [
        (True, "", inside(0)),
        (True, "four", inside(4)),
        (True, "a long thought", cut()),
        (True, "four</think>", BEHIND),
        (True, "\n<think>four", inside(4)),
        (False, "", Place(START)),
        (False, "\n", Place(START)),
        (False, "<thi", Place(START, 1)),
        (False, "<think>", inside(0)),
        (False, "<think>four", inside(4)),
        (False, "<think>four</think>4", BEHIND),
        (False, "<think></think>4", BEHIND),
        (False, "The tag <think> begins", BEHIND),
    ],
)
def test_steps_of_one_answer_share_its_budget(is_open: bool, text: str, place: Place) -> None:
    """What an answer has thought in earlier steps is gone; behind its thinking, nothing is watched."""
    assert place_of(budget(is_open=is_open), text) == place


def test_a_further_turn_has_a_budget_of_its_own() -> None:
    """The template opens the thinking again, or the model may."""
    turn = (*encode("thought</think>42"), END_OF_TURN, *encode("\nuser: Are you sure?"), END_OF_TURN)
    opened = (*turn, *encode("\nassistant: <think>\n"))
    assert budget().begin(budget().place(opened), opened, ROOM) == inside(0)
    assert budget().place((*turn, *encode("\nassistant:"))) == Place(START)
    assert budget().place((*turn, *encode("\nassistant: <think>\n\n</think>\n\n"))) == BEHIND


@given(PIECES, st.booleans(), st.integers(0, 40))
def test_what_is_left_is_never_more_than_the_budget(pieces: list[str], is_open: bool, tokens: int) -> None:
    """And the tokens that are thought are exactly those that are missing."""
    text = "".join(pieces)
    place = place_of(budget(tokens, is_open=is_open), text)
    if place.mark != END:
        assert place in (BEHIND, Place(START), Place(START, 1)) or place.event == "cut"
        return
    thought, answer = Thinking(START, END, is_open=True).split(text)
    assert answer is None
    assert place.left is not None
    assert 0 < place.left <= tokens
    if is_open and not text.rstrip().endswith(START):
        assert place.left == max(tokens - len(thought), 0)


@given(PIECES, st.integers(1, 12))
def test_the_end_that_is_written_ends_the_thinking_once(pieces: list[str], tokens: int) -> None:
    """Also behind the first part of the mark, which is completed and not written twice."""
    text = "".join(pieces)
    thinking = Thinking(START, END)
    if not thinking.is_inside(text):
        return
    whole = text + decode(budget(tokens).closing(encode(text)))
    assert whole.endswith(END)
    assert thinking.split(whole)[1] == ""
    assert len(whole) - len(text) == len(END) - max(size for size in range(len(END)) if text.endswith(END[:size]))


def test_a_mark_of_one_token_is_written_whole() -> None:
    """Parsers look for the token, and `</thi` and `nk>` are not this token."""
    one = ThinkingBudget(3, Thinking(START, END, (7,)), decode, lambda _text: (7,))
    assert one.closing(encode("a</thi")) == (7,)


def test_what_follows_a_leg() -> None:
    """A mark that is reached, a budget that is used up, an end of its own."""
    begun, place = encode("a</think>"), Place(END, 3)

    def after(held: ThinkingBudget, place: Place, leg: Leg, text: str | None = None) -> Place | None:
        return held.after(place, leg, leg.token_ids if text is None else encode(text), ROOM)

    assert after(budget(), place, Leg("a</think>", begun, "stop", END)) == BEHIND
    assert after(budget(), Place(START), Leg(START, encode(START), "stop", START)) == Place(END)
    said = encode("Say <think>")
    assert after(budget(), Place(START), Leg("Say <think>", said, "stop", START)) == BEHIND
    assert after(budget(), place, Leg("abc", encode("abc"), "length")) == Place(END, thought=3)
    assert after(budget(), place, Leg("nk>", encode("nk>"), "length"), "a</think>") == BEHIND
    assert after(budget(), place, Leg("ab", encode("ab"), "length")) is None
    assert after(budget(), place, Leg("a", encode("a"), "stop", END_OF_TURN)) is None
    assert after(budget(), place, Leg("a", encode("a"), "abort")) is None
    assert after(budget(), BEHIND, Leg("abc", encode("abc"), "length")) is None
    assert after(budget(stop=(END,)), place, Leg("a", encode("a"), "stop", END)) is None


def test_text_behind_a_mark_in_its_last_token_is_kept() -> None:
    """A stop string cuts the text within a token; the token stays in the prefix of the answer."""
    assert budget().behind_mark(Leg("a</think>", encode("a</think>\n\n"), "stop", END)) == "\n\n"
    assert budget().behind_mark(Leg("abc", encode("abc"), "length")) == ""
