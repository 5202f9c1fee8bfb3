"""Parsers of replies that need no engine: plain text, and tool calls in one simple form. What parsers of tool calls have in common."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.engine.base import ReplyParser
from strategies.core.thinking import Thinking


class PlainReply:
    """A `ReplyParser` for replies without markup: all of the text is the content."""

    def parse(self, text: str, token_ids: tuple[int, ...], *, is_cut: bool = False) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Return the whole text as content."""
        return {"content": text}

    def feed(
        self,
        text: str,
        token_ids: tuple[int, ...],  # noqa: ARG002 - the port's signature
        *,
        is_last: bool,  # noqa: ARG002
        is_cut: bool = False,  # noqa: ARG002
    ) -> dict[str, Any] | None:
        """Return the new text as content, None where there is none."""
        return {"content": text} if text else None


class ToolReply:
    """A `ReplyParser` for `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, the form of Hermes models.

    It sends one delta, at the end.

    Args:
        max_calls: the most calls of a reply; further ones are left out. None for any number.

    """

    def __init__(self, max_calls: int | None = None) -> None:
        self._text = ""
        self._max_calls = max_calls

    def parse(self, text: str, token_ids: tuple[int, ...], *, is_cut: bool = False) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Return the tool calls of a whole reply; without any, the text as content."""
        calls = [json.loads(match) for match in re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)]
        if not calls:
            return {"content": (text.partition("<tool_call>")[0] or None) if is_cut else text}
        return {
            "content": None,
            "tool_calls": [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
                }
                for number, call in enumerate(calls[: self._max_calls])
            ],
        }

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool, is_cut: bool = False) -> dict[str, Any] | None:
        """Return the whole message with the last piece of text, None before it."""
        self._text += text
        return as_delta(self.parse(self._text, token_ids, is_cut=is_cut)) if is_last else None


class ThinkingReply:
    """A `ReplyParser` that tells the thinking from the answer by their marks. Another parser reads the answer.

    A reply that ends while it thinks has no content.

    Args:
        thinking: the marks.
        answer: reads what follows the thinking.

    """

    def __init__(self, thinking: Thinking, answer: ReplyParser) -> None:
        self._thinking = thinking
        self._answer = answer
        self._text = ""
        self._num_thought = self._num_answered = 0

    def parse(self, text: str, token_ids: tuple[int, ...], *, is_cut: bool = False) -> dict[str, Any]:
        """Return the thinking as `reasoning`, and the fields of the answer."""
        thought, answer = self._thinking.split(text)
        message = {"content": None} if answer is None else self._answer.parse(answer, token_ids, is_cut=is_cut)
        return {**message, "reasoning": thought} if thought else message

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool, is_cut: bool = False) -> dict[str, Any] | None:
        """Return new thinking, new fields of the answer, or both. What may be the beginning of a mark is held back."""
        self._text += text
        if not is_last and self._thinking.start.startswith(self._text.lstrip()):
            return None
        thought, answer = self._thinking.split(self._text)
        held = 0 if is_last or answer is not None else _overlap(thought, self._thinking.end)
        reasoning = thought[self._num_thought : len(thought) - held]
        self._num_thought += len(reasoning)
        delta: dict[str, Any] = {"reasoning": reasoning} if reasoning else {}
        if answer is not None:
            new = answer[self._num_answered :]
            self._num_answered = len(answer)
            delta |= self._answer.feed(new, token_ids, is_last=is_last, is_cut=is_cut) or {}
        return delta or None


def _overlap(text: str, mark: str) -> int:
    """Return the length of the longest end of a text that a mark begins with."""
    return next((size for size in range(min(len(mark), len(text)), 0, -1) if text.endswith(mark[:size])), 0)


class EscapedTags:
    """Escapes the slash of `</` in the JSON strings of tool calls. The strings stay the same, and no argument ends the call that holds it.

    Parsers that look for the tag behind a call would else end it at the same tag in an argument.

    Args:
        start: the tag before a call.
        end: the tag behind a call.

    """

    def __init__(self, start: str, end: str) -> None:
        self._start, self._end = start, end
        self._tail = ""
        self._is_in_call = self._is_in_string = self._is_escaped = False

    def __call__(self, text: str) -> str:
        """Return the next piece of a reply with its strings escaped. A piece may end anywhere."""
        return "".join(map(self._write, text))

    def _write(self, char: str) -> str:
        escapes = self._is_in_string and char == "/" and self._tail.endswith("<")
        self._tail = (self._tail + char)[-max(len(self._start), len(self._end)) :]
        if not self._is_in_call:
            self._is_in_call = self._tail.endswith(self._start)
        elif not self._is_in_string:
            self._is_in_string = char == '"'
            self._is_in_call = not self._tail.endswith(self._end)
        elif self._is_escaped:
            self._is_escaped = False
        else:
            self._is_in_string = char != '"'
            self._is_escaped = char == "\\"
        return "\\/" if escapes else char


def as_delta(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a whole message as the one delta of its stream, None for an empty one."""
    delta = {name: value for name, value in message.items() if value}
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    return delta or None


def joined(deltas: Sequence[Mapping[str, Any]], max_calls: int | None = None) -> list[dict[str, Any]]:
    """Return the deltas of tool calls as OpenAI sends them: one for each call, with arguments from the first one on.

    Args:
        deltas: of one or several calls, in the order in which they were generated.
        max_calls: the most calls of a reply; deltas of further ones are left out. None for any number.

    """
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        index = delta["index"]
        if max_calls is None or index < max_calls:
            before, function = calls.get(index, {}), delta.get("function") or {}
            known = before.get("function", {})
            arguments = known.get("arguments", "") + (function.get("arguments") or "")
            calls[index] = {**before, **delta, "function": {**known, **function, "arguments": arguments}}
    return list(calls.values())


@dataclass(slots=True)
class Sent:
    """What a stream was made from and has sent: text, token ids, content, and the arguments of each call."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    content: str = ""
    arguments: dict[int, str] = field(default_factory=dict)

    def add(self, text: str, token_ids: Sequence[int], delta: Mapping[str, Any]) -> None:
        """Add generated text and the delta that was made from it."""
        self.text += text
        self.token_ids += token_ids
        self.content += delta.get("content") or ""
        for call in delta.get("tool_calls", ()):
            self.arguments[call["index"]] = self.arguments.get(call["index"], "") + call["function"]["arguments"]

    def completed(self, delta: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the last delta with what the whole message has besides: the end of its content, calls, and arguments not begun."""
        content = message.get("content") or ""
        if content.startswith(self.content) and content != self.content:
            delta = {**delta, "content": (delta.get("content") or "") + content[len(self.content) :]}
        calls = list(delta.get("tool_calls", ()))
        for index, call in enumerate(message.get("tool_calls", ())):
            if index not in self.arguments:
                calls.append({"index": index, **call})
            elif not self.arguments[index]:
                calls.append({"index": index, "function": {"arguments": call["function"]["arguments"]}})
        delta = {**delta, **({"tool_calls": joined(calls)} if calls else {})}
        return delta or None


def as_message(delta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one delta of a stream as a whole message."""
    calls = [{name: value for name, value in call.items() if name != "index"} for call in delta.get("tool_calls", [])]
    message = {"content": None, **delta}
    return {**message, "tool_calls": calls} if calls else message
