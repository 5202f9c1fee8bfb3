"""Reading replies: from generated text to the fields of an assistant message."""

import json
import re
import uuid
from typing import Any

from app.engine.base import Prompt


class PlainReply:
    """A `ReplyParser` for replies without markup: all of the text is the content."""

    def parse(self, text: str, token_ids: tuple[int, ...]) -> dict[str, Any]:  # noqa: ARG002 - the port's signature
        """The text as content."""
        return {"content": text}

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool) -> dict[str, Any] | None:  # noqa: ARG002
        """The text as content; nothing when there is none."""
        return {"content": text} if text else None


class ParsedReply:
    """A `ReplyParser` over an engine's own parser of tool calls and reasoning, with the interface of vLLM's `Parser`."""

    def __init__(self, parser: Any, prompt: Prompt) -> None:
        self._parser, self._request, self._prompt_ids = parser, prompt.request, list(prompt.token_ids)

    def parse(self, text: str, token_ids: tuple[int, ...]) -> dict[str, Any]:
        """Content, reasoning and tool calls of a whole reply."""
        self._parser.set_prompt_token_ids(self._prompt_ids)
        reasoning, content, calls = self._parser.parse(
            text, self._request, enable_auto_tools=True, model_output_token_ids=token_ids
        )
        message: dict[str, Any] = {"content": content}
        if reasoning:
            message["reasoning"] = reasoning
        if calls:
            message["tool_calls"] = [
                {
                    "id": call.id or f"call_{uuid.uuid4().hex}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in calls
            ]
        return message

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool) -> dict[str, Any] | None:
        """The same as deltas."""
        delta = self._parser.parse_delta(text, list(token_ids), self._request, self._prompt_ids, finished=is_last)
        return None if delta is None else delta.model_dump(exclude_unset=True, exclude_none=True)


class ToolReply:
    """Reads `<tool_call>{"name": …, "arguments": {…}}</tool_call>`; deltas come at the end."""

    def __init__(self) -> None:
        self._text = ""

    def parse(self, text: str, token_ids: tuple[int, ...]) -> dict[str, Any]:  # noqa: ARG002 - the port's signature
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
        self._text += text
        if not is_last:
            return None
        message = self.parse(self._text, token_ids)
        calls = message.get("tool_calls", [])
        return {**message, "tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]} if calls else message
