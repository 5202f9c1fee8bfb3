"""Parsers of replies that need no engine: plain text, and tool calls in one simple form."""

import json
import re
from typing import Any


class PlainReply:
    """A `ReplyParser` for replies without markup: all of the text is the content."""

    def parse(self, text: str, token_ids: tuple[int, ...]) -> dict[str, Any]:  # noqa: ARG002 - the port's signature
        """Return the whole text as content."""
        return {"content": text}

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool) -> dict[str, Any] | None:  # noqa: ARG002
        """Return the new text as content, None where there is none."""
        return {"content": text} if text else None


class ToolReply:
    """A `ReplyParser` for `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, the form of Hermes models.

    It sends one delta, at the end.
    """

    def __init__(self) -> None:
        self._text = ""

    def parse(self, text: str, token_ids: tuple[int, ...]) -> dict[str, Any]:  # noqa: ARG002 - the port's signature
        """Return the tool calls of a whole reply; without any, the text as content."""
        calls = [json.loads(match) for match in re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)]
        if not calls:
            return {"content": text}
        return {
            "content": None,
            "tool_calls": [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
                }
                for number, call in enumerate(calls)
            ],
        }

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool) -> dict[str, Any] | None:
        """Return the whole message with the last piece of text, None before it."""
        self._text += text
        if not is_last:
            return None
        message = self.parse(self._text, token_ids)
        calls = message.get("tool_calls", [])
        return {**message, "tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]} if calls else message
