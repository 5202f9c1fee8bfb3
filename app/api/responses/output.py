"""Writes the output items of one response, and the events that tell how they grow, in OpenAI's order."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from app.api.responses.shapes import Ending, new_id, new_item_id

Event = dict[str, Any]
_REASONS = {400: "invalid_prompt", 429: "rate_limit_exceeded"}


class OutputWriter:
    """Grows a `response` object, and yields an event for each step.

    An event has references to the growing response: it must be serialised before the next one is taken.

    Args:
        response: without output. It is changed in place.

    """

    def __init__(self, response: dict[str, Any]) -> None:
        self.response = response
        self._sequence = 0
        self._item: dict[str, Any] | None = None  # the last item, while it grows
        self._call = -1  # the index of the tool call that grows

    def open(self) -> Iterator[Event]:
        """Yield the first events."""
        yield self._event("response.created", response=self.response)
        if self.response["status"] == "queued":
            yield self._event("response.queued", response=self.response)

    def begin(self, **fields: Any) -> Iterator[Event]:
        """Yield the event that the request runs now, with these fields of this server's own."""
        self.response["status"] = "in_progress"
        yield self._event("response.in_progress", response=self.response, **fields)

    def nodes(self, nodes: list[dict[str, Any]]) -> Iterator[Event]:
        """Tell of nodes of the search. No type of OpenAI's has room for them, and strict clients stop at a type that they do not know."""
        yield self._event("response.in_progress", response=self.response, ponder={"nodes": nodes})

    def progress(self, text: str) -> Iterator[Event]:
        """Add a line about the search: a part of the summary of a reasoning item."""
        yield from self._ensure("reasoning", summary=[])
        item = self._last_item()
        part = {"type": "summary_text", "text": ""}
        at = {"summary_index": len(item["summary"])}
        yield self._of_item("response.reasoning_summary_part.added", **at, part=part)
        item["summary"].append({**part, "text": text})
        yield self._of_item("response.reasoning_summary_text.delta", **at, delta=text)
        yield self._of_item("response.reasoning_summary_text.done", **at, text=text)
        yield self._of_item("response.reasoning_summary_part.done", **at, part=item["summary"][-1])

    def message(self, fields: Mapping[str, Any], logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        """Add what the model said: the fields of a delta of an assistant message, and the log-probabilities of its tokens."""
        if reasoning := fields.get("reasoning"):
            yield from self._thought(reasoning)
        if content := fields.get("content"):
            yield from self._text(content, logprobs)
        for number, call in enumerate(fields.get("tool_calls") or ()):
            yield from self._tool_call(call.get("index", number), call)

    def end(self, ending: Ending) -> Iterator[Event]:
        """Close the last item, and yield the last event."""
        if not any(item["type"] in ("message", "function_call") for item in self.response["output"]):
            yield from self._ensure("message", role="assistant", content=[])
            yield from self._ensure_part("output_text")
        status = "incomplete" if ending.is_cut else "completed"
        yield from self._close(status)
        details = {"reason": "max_output_tokens"} if ending.is_cut else None
        self.response |= {"status": status, "incomplete_details": details, "usage": ending.usage, "ponder": ending.ponder}
        self.response["completed_at"] = None if ending.is_cut else int(time.time())
        yield self._event(f"response.{status}", response=self.response)

    def fail(self, status: int, message: str) -> Iterator[Event]:
        """Yield the event of an error. `status` is the HTTP status that the error would have."""
        self._give_up()
        error = {"code": _REASONS.get(status, "server_error"), "message": message}
        self.response |= {"status": "failed", "error": error}
        yield self._event("response.failed", response=self.response)

    def cancel(self) -> None:
        """End the response, which its caller has cancelled. OpenAI has no event for it."""
        self._give_up()
        self.response["status"] = "cancelled"

    def _give_up(self) -> None:
        if self._item is not None:
            self._item["status"] = "incomplete"
        self._item = None

    def _thought(self, text: str) -> Iterator[Event]:
        yield from self._ensure("reasoning", summary=[], content=[])
        yield from self._ensure_part("reasoning_text")
        self._part()["text"] += text
        yield self._of_item("response.reasoning_text.delta", content_index=0, delta=text)

    def _text(self, text: str, logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        yield from self._ensure("message", role="assistant", content=[])
        yield from self._ensure_part("output_text")
        part = self._part()
        part["text"] += text
        part["logprobs"] += logprobs
        yield self._of_item("response.output_text.delta", content_index=0, delta=text, logprobs=logprobs)

    def _tool_call(self, index: int, call: Mapping[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        if self._item is None or self._item["type"] != "function_call" or index != self._call:
            yield from self._close()
            self._call = index
            named = {"call_id": call.get("id") or new_id("call"), "name": function.get("name") or ""}
            yield from self._ensure("function_call", **named, arguments="")
        if arguments := function.get("arguments"):
            self._last_item()["arguments"] += arguments
            yield self._of_item("response.function_call_arguments.delta", delta=arguments)

    def _ensure(self, kind: str, **fields: Any) -> Iterator[Event]:
        """Let the last item be a growing one of this kind."""
        if self._item is not None and self._item["type"] == kind and fields.keys() <= self._item.keys():
            return
        yield from self._close()
        self._item = {"id": new_item_id(kind), "type": kind, "status": "in_progress", **fields}
        self.response["output"].append(self._item)
        yield self._of_item("response.output_item.added", item=self._item)

    def _ensure_part(self, kind: str) -> Iterator[Event]:
        item = self._last_item()
        if not item["content"]:
            part: dict[str, Any] = {"type": kind, "text": ""}
            item["content"].append(part if kind == "reasoning_text" else {**part, "annotations": [], "logprobs": []})
            yield self._of_item("response.content_part.added", content_index=0, part=item["content"][0])

    def _close(self, status: str = "completed") -> Iterator[Event]:
        if (item := self._item) is None:
            return
        if item["type"] == "function_call":
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield self._of_item("response.function_call_arguments.done", **done)
        if item.get("content"):
            yield from self._close_part(item["content"][0])
        item["status"] = status
        yield self._of_item("response.output_item.done", item=item)
        self._item = None

    def _close_part(self, part: dict[str, Any]) -> Iterator[Event]:
        at: dict[str, Any] = {"content_index": 0, "text": part["text"]}
        if part["type"] == "reasoning_text":
            yield self._of_item("response.reasoning_text.done", **at)
        else:
            yield self._of_item("response.output_text.done", **at, logprobs=part["logprobs"])
        yield self._of_item("response.content_part.done", content_index=0, part=part)

    def _last_item(self) -> dict[str, Any]:
        return self.response["output"][-1]  # type: ignore[no-any-return]

    def _part(self) -> dict[str, Any]:
        return self._last_item()["content"][0]  # type: ignore[no-any-return]

    def _of_item(self, kind: str, **fields: Any) -> Event:
        item, index = self._last_item(), len(self.response["output"]) - 1
        at = {"output_index": index} if "item" in fields else {"item_id": item["id"], "output_index": index}
        return self._event(kind, **at, **fields)

    def _event(self, kind: str, **fields: Any) -> Event:
        self._sequence += 1
        return {"type": kind, "sequence_number": self._sequence - 1, **fields}
