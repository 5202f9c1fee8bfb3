"""Replies that vLLM's own parsers read: tool calls and reasoning. Imports nothing of vLLM."""

import uuid
from collections.abc import Callable
from typing import Any

from app.engine.base import Prompt
from app.engine.reply_parsers import EscapedTags, Sent, as_delta, as_message, joined


class ParsedReply:
    """A `ReplyParser` over vLLM's parsers.

    Args:
        new_parser: returns a parser of vLLM for one reading of this reply, with the interface of vLLM's `Parser`. It keeps state.
        prompt: that is replied to.
        tags: before and behind each call of a reply whose calls are held to be JSON by a grammar; None elsewhere.

    """

    def __init__(self, new_parser: Callable[[], Any], prompt: Prompt, tags: tuple[str, str] | None = None) -> None:
        self._new_parser, self._request, self._prompt_ids = new_parser, prompt.request, list(prompt.token_ids)
        self._thinking = prompt.thinking
        self._streaming: Any = None
        self._sent = Sent()
        self._new_escape: Callable[[], Callable[[str], str]] = lambda: EscapedTags(*tags) if tags else str
        self._escape = self._new_escape()
        self._max_calls = 1 if prompt.request.parallel_tool_calls is False else None

    def parse(self, text: str, token_ids: tuple[int, ...], *, is_cut: bool = False) -> dict[str, Any]:
        """Return content, reasoning and tool calls of a whole reply."""
        text = self._new_escape()(text)
        parser = self._new_parser()
        parser.set_prompt_token_ids(self._prompt_ids)
        reasoning, content, calls = parser.parse(text, self._request, enable_auto_tools=True, model_output_token_ids=token_ids)
        if not calls and self._request.tools:
            # vLLM reads only finished calls from a whole reply, and what there is of a call from a stream.
            delta = self._read_delta(self._new_parser(), text, token_ids, is_last=True, is_cut=is_cut) or {}
            if is_cut or delta.get("tool_calls"):
                return as_message(delta)
        if content and self._thinking is not None and self._thinking.is_inside(text) and not calls:
            # Some of vLLM's parsers take thinking that was cut for an answer.
            reasoning, content = self._thinking.split(text)
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
                for call in calls[: self._max_calls]
            ]
        return message

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool, is_cut: bool = False) -> dict[str, Any] | None:
        """Return the fields of the next delta, None when there is nothing to show yet."""
        if self._streaming is None:
            if is_last:
                return as_delta(self.parse(text, token_ids, is_cut=is_cut))
            self._streaming = self._new_parser()
        text = self._escape(text)
        delta = self._read_delta(self._streaming, text, token_ids, is_last=is_last, is_cut=is_cut)
        if not self._request.tools:
            return delta
        self._sent.add(text, token_ids, delta or {})
        if not is_last or is_cut:
            return delta
        # vLLM's parsers of streams hold back what may begin a call, and leave it out where the reply ends with it.
        return self._sent.completed(delta or {}, self.parse(self._sent.text, tuple(self._sent.token_ids)))

    def _read_delta(
        self, parser: Any, text: str, token_ids: tuple[int, ...], *, is_last: bool, is_cut: bool
    ) -> dict[str, Any] | None:
        # At the end, vLLM completes the arguments of a call that it has just found: those of a call that was cut would become `{}`.
        pieces = [(text, token_ids, False), ("", (), True)] if is_last and is_cut else [(text, token_ids, is_last)]
        delta: dict[str, Any] = {}
        calls = []
        for piece, ids, is_end in pieces:
            read = parser.parse_delta(piece, list(ids), self._request, self._prompt_ids, finished=is_end)
            fields = {} if read is None else read.model_dump(exclude_unset=True, exclude_none=True)
            calls += fields.pop("tool_calls", ())
            delta |= {name: delta.get(name, "") + value for name, value in fields.items()}
        if joined_calls := joined(calls, self._max_calls):
            delta["tool_calls"] = joined_calls
        return delta or None
