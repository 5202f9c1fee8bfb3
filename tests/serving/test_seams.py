"""Where the server may write into a thinking, and how a thinking comes to its end there: never within a character or a block."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.base import Output
from app.engine.scripted import SMALL
from app.metering.meter import Reservation
from app.serving.branch_output import BranchOutput
from app.serving.inserted import inserted
from app.serving.legs import ANSWER_ROOM, ANSWER_SHARE, MAX_EXTENSIONS, ThinkingBudget
from app.serving.places import BEHIND, Leg, Place, Room
from app.serving.seams import CHAR_REST, LandingZone, ends_line, is_in_block, is_whole, paragraph
from app.serving.wave import Wave
from strategies.core.thinking import Thinking
from strategies.core.values import Delta, TokenLogprob

START, END = "<think>", "</think>"
SENTENCE = "Zeit ist um."
TEXTS = st.text(alphabet="aé漢🙂 \n{}`.", max_size=400)


def decode(token_ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes, so that a character has up to four."""
    return bytes(token_ids).decode(errors="replace")


def encode(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


class Run:
    """One branch: a model that writes a thought, its end, and an answer, whatever the server writes between."""

    def __init__(self, held: ThinkingBudget, thought: str, max_tokens: int) -> None:
        self.held, self.max_tokens = held, max_tokens
        self.left = list(encode(thought + END))
        self.ids: list[int] = []
        self.num_generated = self.num_legs = 0
        self.events: list[tuple[str, str]] = []
        """What the server did, and the text before it."""

    @property
    def room(self) -> Room:
        return Room(self.max_tokens - self.num_generated, self.max_tokens - self.num_generated)

    def run(self) -> "Run":
        place: Place | None = self.begin(self.held.place(()))
        while place is not None and place.mark == END:
            leg = self.generate(place)
            ids = (*self.ids, *leg.token_ids)
            following = self.held.after(place, leg, ids, self.room)
            self.ids += leg.token_ids
            if following is not None and following.taken_back is not None:
                self.take_back(following)
                ids = (*self.ids, *following.written)
            place = None if following is None else self.begin(following, ids)
        self.is_behind = place is not None
        return self

    def take_back(self, place: Place) -> None:
        assert place.taken_back is not None
        self.ids = self.ids[: -place.taken_back.tokens]
        self.left = list(encode("And so on." + END))

    def begin(self, place: Place, ids: tuple[int, ...] | None = None) -> Place | None:
        begun = self.held.begin(place, tuple(self.ids) if ids is None else ids, self.room)
        if len(begun.written) >= self.room.branch:
            return None
        if begun.event is not None:
            self.events.append((begun.event, decode(self.ids)))
            self.ids += begun.written
            self.num_generated += len(begun.written)
        return begun

    def generate(self, place: Place) -> Leg:
        self.num_legs += 1
        room = self.max_tokens - self.num_generated
        new: list[int] = []
        finish, stop = "length", None
        while len(new) < min(room, room if place.left is None else place.left) and self.left:
            new.append(self.left.pop(0))
            if stop := next((one for one in (END, *place.breaks) if decode(new).endswith(one)), None):
                finish = "stop"
                break
        self.num_generated += len(new)
        return Leg(decode(new), tuple(new), finish, stop)


def budget(tokens: int | None, *, landing: str = "", least: int = 0, has_tools: bool = False) -> ThinkingBudget:
    thinking = Thinking(START, END, encode(END))
    return ThinkingBudget(tokens, thinking, decode, encode, landing=landing, least=least, has_tools=has_tools)


@given(TEXTS, st.integers(0, 300), st.sampled_from(["", SENTENCE]), st.integers(0, 60))
def test_nothing_is_written_into_a_character(thought: str, tokens: int, landing: str, least: int) -> None:
    """And the budget holds, but for the rest of a character; the text is what the model and the server wrote, whole."""
    run = Run(budget(tokens, landing=landing, least=min(least, tokens)), thought, 4000).run()
    text = bytes(run.ids).decode()
    assert all(is_whole(before) for _, before in run.events)
    inner, answer = Thinking(START, END).split(text)
    assert answer == ""
    assert len(inner.encode()) <= tokens + CHAR_REST
    events = [event for event, _ in run.events]
    assert events.count("landed") <= 1
    assert events.count("extended") <= MAX_EXTENSIONS
    if events == []:
        assert inner == thought.partition(END)[0]


@given(TEXTS, st.integers(120, 300))
def test_a_landing_is_announced_in_the_last_part_of_the_budget(thought: str, tokens: int) -> None:
    """At the end of a line where one comes in time, and never in a block. The model has tokens left to end its thinking."""
    run = Run(budget(tokens, landing=SENTENCE), thought * 5, 4000).run()
    zone = LandingZone.of(tokens, len(encode("\n\n" + SENTENCE)))
    assert zone is not None
    for event, before in run.events:
        num = len(before.encode())
        if event == "landed":
            assert zone.begin <= num <= zone.latest + CHAR_REST
            assert not is_in_block(before)
            assert ends_line(before) or num >= zone.due
            assert tokens - num - len(SENTENCE) >= len(SENTENCE) // 2 - CHAR_REST
    assert run.num_legs < 100


@given(st.integers(1, 2000), st.integers(0, 2000))
def test_an_answer_always_has_room(max_tokens: int, tokens: int) -> None:
    """A quarter of all tokens, or `ANSWER_ROOM`, whatever the budget says; less only where the end of the thinking leaves less."""
    run = Run(budget(tokens), "x" * 3000, max_tokens).run()
    if run.is_behind:
        assert max_tokens - len(run.ids) >= min(ANSWER_ROOM, max_tokens // ANSWER_SHARE, max_tokens - len(END))
    else:
        assert max_tokens <= len(END)


def test_a_landing_needs_a_budget_that_is_long_enough() -> None:
    """The last quarter must hold the sentence twice."""
    assert LandingZone.of(79, 10) is None
    assert LandingZone.of(80, 10) == LandingZone(60, 65, 65)
    assert LandingZone.of(100_000, 10) == LandingZone(99_744, 99_867, 99_980)


def test_a_landing_is_written_once_and_only_where_it_is_missing() -> None:
    """Steps of a search know it from the text that they continue."""
    held = budget(200, landing=SENTENCE)
    landed = "a\n" * 80 + "\n" + SENTENCE
    assert held.place(encode(landed)).has_landed
    assert not held.place(encode("a\n" * 80)).has_landed
    at_break = held.begin(held.place(encode("a\n" * 80)), encode("a\n" * 80), Room(900, 900))
    assert (at_break.event, decode(at_break.written)) == ("landed", "\n" + SENTENCE)


def test_a_thinking_that_ends_too_early_goes_on() -> None:
    """The mark is gone, and the model's word of doubt stands in a paragraph of its own."""
    run = Run(budget(None, least=20), "It is 42.", 4000).run()
    text = bytes(run.ids).decode()
    assert text.startswith("It is 42.\n\nWaitAnd so on.")
    assert text.count(END) == 1
    assert len(text.partition(END)[0]) >= 20
    assert [event for event, _ in run.events] == ["extended"]


def test_a_thinking_is_extended_a_few_times_only() -> None:
    """A model that ends it at once, again and again, ends it."""
    run = Run(budget(None, least=10_000), "", 40_000).run()
    assert [event for event, _ in run.events] == ["extended"] * MAX_EXTENSIONS


def test_text_in_the_token_of_a_mark_is_written_again() -> None:
    """A token may end the thought and begin the mark: it is taken back whole."""
    pieces = [b"It is 42", b".</", b"think>", b".\n\nWait", b"Wait"]

    def words(text: str) -> tuple[int, ...]:
        return (pieces.index(text.encode()),) if text.encode() in pieces else tuple(b + 10 for b in text.encode())

    def text_of(ids: Sequence[int]) -> str:
        return b"".join(pieces[one] if one < 10 else bytes([one - 10]) for one in ids).decode()

    held = ThinkingBudget(None, Thinking(START, END, words(END)), text_of, words, least=20)
    leg = Leg("It is 42.</think>", (0, 1, 2), "stop", END)
    place = held.after(held.place(()), leg, leg.token_ids, Room(900, 900))
    assert place is not None
    assert place.taken_back is not None
    assert (place.taken_back.tokens, place.taken_back.chars, place.written) == (2, len(".</think>"), (3,))
    assert place.thought == 2


def test_an_end_across_two_legs_is_an_end() -> None:
    """The engine does not see it. What follows is an answer, into which nothing is written."""
    held = budget(200, landing=SENTENCE)
    before, leg = "a " * 75 + "</thi", Leg("nk>\n", encode("nk>\n"), "stop", "\n")
    place = Place(END, 10, thought=len(before), breaks=("\n",))
    assert held.after(place, leg, encode(before + leg.text), Room(900, 900)) == BEHIND
    # and nothing is written into the beginning of an end
    waiting = held.begin(replace(place, thought=170, left=None, breaks=()), encode("a" * 165 + "</thi"), Room(900, 900))
    assert (waiting.event, waiting.left) == (None, 1)


@pytest.mark.parametrize("max_tokens", range(20, 200, 3))
def test_an_end_is_taken_back_only_where_there_is_room_to_go_on(max_tokens: int) -> None:
    """So there is one end, whatever the limit of all tokens."""
    run = Run(budget(None, least=10_000), "It is 42." * 4, max_tokens).run()
    assert bytes(run.ids).decode().count(END) <= 1
    limited = Run(budget(60, least=60), "It is 42." * 4, max_tokens).run()
    assert bytes(limited.ids).decode().count(END) <= 1
    assert len(bytes(limited.ids).decode().partition(END)[0]) <= 60


def test_a_stream_never_shows_what_is_taken_back() -> None:
    """Its outputs wait while the end of the thinking might come: a mark may have several tokens."""
    held = budget(None, least=50)
    shown: list[Delta] = []
    wave = Wave((), 0, 900, 900, 900, (), 0, shown.append, None, None, budget=held)
    output = BranchOutput(0, wave, Reservation(0, 900, 0, SMALL))
    place = held.begin(held.place(()), (), Room(900, 900))
    output.withhold(held.longest_end)
    text = "It is 42." + END
    for num, char in enumerate(text, 1):
        # as vLLM does: a text that may be the beginning of a stop string waits
        is_last = num == len(text)
        new = text[max(num - len(END), 0) : max(num + 1 - len(END), 0)] if not is_last else END[:0] + text[num - len(END) :]
        entry = (TokenLogprob(char, ord(char), -1.0),)
        output.add(Output(new, (ord(char),), 0, 0, *(("stop", END) if is_last else ()), logprobs=entry))
    following = held.after(place, output.leg, output.token_ids, Room(800, 800))
    assert following is not None
    output.begin_leg(Reservation(0, 800, 0, SMALL), following, "", inserted(following.written, decode))
    assert "".join(delta.text for delta in shown) == "It is 42.\n\nWait"
    assert decode([one for delta in shown for one in delta.token_ids]) == "It is 42.\n\nWait"
    assert [entry.token_id for delta in shown for entry in delta.logprobs] == list(output.token_ids)


def test_a_tool_call_in_a_thinking_is_left_alone() -> None:
    """With the parsers of several models a call ends the thinking: its arguments are no thoughts that a budget may cut."""
    text = 'So:\n<tool_call>\n{"name": "add"'
    for has_tools, place in ((True, BEHIND), (False, None)):
        held = budget(10, has_tools=has_tools)
        begun = held.begin(held.place(encode(text)), encode(text), Room(900, 900))
        assert begun == place if has_tools else begun.event == "cut"


@pytest.mark.parametrize(
    ("text", "is_block"),
    [
        ("a\n", False),
        ('{"a": 1,\n', True),
        ('{"a": 1}\n', False),
        ("```\nx = 1\n", True),
        ("```\nx = 1\n```\n", False),
        ("<tool_call>\n", True),
        ("{never closed\n\nA new paragraph.\n", False),
        ("\\frac{1}{2}\n", False),
    ],
)
def test_blocks(text: str, is_block: bool) -> None:
    """JSON, code and tool calls are blocks until they end."""
    assert is_in_block(text) == is_block


def test_a_paragraph_of_its_own() -> None:
    """The line breaks that are missing are added."""
    assert [paragraph(before, "B") for before in ("", "a", "a\n", "a\n\n")] == ["B", "\n\nB", "\nB", "B"]


@given(st.text(max_size=40))
def test_the_texts_of_written_tokens_are_their_text(text: str) -> None:
    """Characters of several tokens have their text at the last one."""
    if "\N{REPLACEMENT CHARACTER}" in text:
        return
    entries = inserted(encode(text), decode)
    assert "".join(entry.token for entry in entries) == text
    assert len(entries) == len(text.encode())
