"""Replies that vLLM's own parsers read: tool calls and reasoning. Imports nothing of vLLM."""

import uuid
from typing import Any

from app.engine.base import Prompt


class ParsedReply:
    """A `ReplyParser` over one of vLLM's parsers.

    Args:
        parser: made for this reply, with the interface of vLLM's `Parser`. It keeps state between deltas.
        prompt: that is replied to.

    """

    def __init__(self, parser: Any, prompt: Prompt) -> None:
        self._parser, self._request, self._prompt_ids = parser, prompt.request, list(prompt.token_ids)

    def parse(self, text: str, token_ids: tuple[int, ...]) -> dict[str, Any]:
        """Return content, reasoning and tool calls of a whole reply."""
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
        """Return the fields of the next delta, None when there is nothing to show yet."""
        delta = self._parser.parse_delta(text, list(token_ids), self._request, self._prompt_ids, finished=is_last)
        return None if delta is None else delta.model_dump(exclude_unset=True, exclude_none=True)
