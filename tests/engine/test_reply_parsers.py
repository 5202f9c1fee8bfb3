"""What parsers of replies do with tool calls, whatever the engine."""

import itertools
import json
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.engine.base import Prompt
from app.engine.reply_parsers import EscapedTags, PlainReply, Sent, ThinkingReply, joined
from app.engine.vllm.replies import ParsedReply
from strategies.core.thinking import Thinking


def test_a_delta_has_one_entry_for_each_call() -> None:
    """The engine may send name and arguments as two entries, or a name without arguments, to which clients could add nothing."""
    deltas = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f"}},
        {"index": 0, "function": {"arguments": '{"x"'}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g"}},
    ]
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}}
    second = {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}
    assert joined(deltas) == [first, second]
    assert joined(deltas, max_calls=1) == [first]
    assert joined([{"index": 0, "function": {"arguments": ": 1}"}}]) == [{"index": 0, "function": {"arguments": ": 1}"}}]


class Delta(dict[str, Any]):
    """What vLLM's parser returns for a delta."""

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return dict(self)


class Parser:
    """Finds no finished call in a whole reply, and the beginning of one in a stream, as vLLM's parser of Hermes' calls."""

    def __init__(self, delta: dict[str, Any]) -> None:
        self._delta = delta

    def set_prompt_token_ids(self, _: list[int]) -> None:
        pass

    def parse(self, text: str, *_: Any, **__: Any) -> tuple[None, str, None]:
        return None, text, None

    def parse_delta(self, text: str, *_: Any, finished: bool) -> Delta:
        """Like vLLM's, it gives a call that is new at the end the arguments `{}`."""
        delta = Delta(self._delta if text else {})
        for call in delta.get("tool_calls", []) if finished else []:
            call["function"]["arguments"] += "{}"
        return delta


def reply(delta: dict[str, Any]) -> ParsedReply:
    request = SimpleNamespace(tools=[{}], parallel_tool_calls=True)
    return ParsedReply(lambda: Parser(delta), Prompt((1, 2), 8, request=request))


CUT = {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": '}}]}


def test_a_call_that_was_cut_has_the_arguments_that_there_are() -> None:
    """Whole, and where the whole reply is one delta of a stream."""
    expected = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": '}}
    assert reply(CUT).parse("<tool_call>…", (3,), is_cut=True) == {"content": None, "tool_calls": [expected]}
    assert reply(CUT).feed("<tool_call>…", (3,), is_last=True, is_cut=True) == CUT


def test_a_call_whose_name_was_cut_is_left_out() -> None:
    assert reply({}).parse("<tool_call>", (3,), is_cut=True) == {"content": None}
    assert reply({}).feed("<tool_call>", (3,), is_last=True, is_cut=True) is None


def test_text_that_is_whole_stays_text() -> None:
    """The parser of a stream holds back what may begin a call; a whole reply is not read with it."""
    assert reply({"content": "1 "}).parse("1 <", (3,)) == {"content": "1 <"}


def test_a_stream_ends_with_what_its_parser_held_back() -> None:
    """The end of the text, which might have begun a call, and arguments that are the default."""
    assert Sent(content="1 ").completed({}, {"content": "1 <"}) == {"content": "<"}
    begun = Sent(arguments={0: ""})
    message = {"content": None, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    assert begun.completed({}, message) == {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    assert Sent(content="1 <", arguments={0: "{}"}).completed({}, {**message, "content": "1 <"}) is None


TEXTS = st.lists(st.sampled_from(['"', "\\", "<", "/", "</tool_call>", "<tool_call>", "é"]), max_size=6).map("".join)


@given(city=TEXTS, before=st.sampled_from(["", 'Say "</b>": ']), size=st.integers(1, 30))
def test_no_argument_ends_its_call(city: str, before: str, size: int) -> None:
    """The call is the same, wherever the pieces of its text end; what is not a call is not touched."""
    call = json.dumps({"name": "f", "arguments": {"city": city}})
    text = f"{before}<tool_call>\n{call}\n</tool_call> </b>"
    escape = EscapedTags("<tool_call>", "</tool_call>")
    escaped = "".join(escape(text[start : start + size]) for start in range(0, len(text), size))
    inside, end, after = escaped.removeprefix(f"{before}<tool_call>").partition("</tool_call>")
    assert (json.loads(inside), end, after) == (json.loads(call), "</tool_call>", " </b>")


@given(st.sampled_from(["2+2 < 5\n</think>\n\n4", "2+2</thi", "<think>a</think>b", "</think>", "a </think>"]), st.data())
def test_a_stream_of_thinking_says_what_the_whole_reply_says(text: str, data: st.DataObject) -> None:
    """Pieces may end anywhere, in a mark too: no part of a mark is thinking or answer."""
    thinking = Thinking("<think>", "</think>")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    parser = ThinkingReply(thinking, PlainReply())
    said = {"reasoning": "", "content": ""}
    for number, piece in enumerate(pieces, 1):
        for name, value in (parser.feed(piece, (), is_last=number == len(pieces)) or {}).items():
            said[name] += value
    whole = ThinkingReply(thinking, PlainReply()).parse(text, ())
    assert said == {"reasoning": whole.get("reasoning", ""), "content": whole["content"] or ""}
