"""A streamed message: Anthropic's events, with the `ponder` object on `message_delta`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from app.api import replies
from app.api.anthropic import shapes
from app.api.anthropic.conversion import MODEL, SEARCH
from app.api.anthropic.errors import error_body
from app.api.anthropic.schemas import MessagesRequest
from app.api.errors import body_of
from app.api.reply_events import ReplyDelta, ReplyEnd, ReplyEvent, ReplyEvents, ReplyProgress, Silence
from app.api.sse import comment, named_event
from app.engine.base import ReplyParser
from app.request import Outcome
from app.serving.session import Session


class MessageStream:
    """Writes the events of one streamed message. One block is open at a time.

    Args:
        session: the admitted request.
        body: says which thinking is shown.

    """

    def __init__(self, session: Session, body: MessagesRequest) -> None:
        self._session = session
        self._progress = body.progress
        self._shows_thinking = body.shows_thinking
        self._parser: ReplyParser | None = None
        self._index = 0
        self._open: tuple[str, object] | None = None
        self._has_calls = False
        self._stop: dict[str, Any] = shapes.stop(None, None, has_calls=False)

    async def events(self, reply: ReplyEvents) -> AsyncIterator[bytes]:
        """Yield the whole stream. An error is sent as its last event, since the HTTP status was sent before, and is raised after that."""
        opening = {"ponder": replies.ponder_opening(self._session)} if self._session.request.shows_nodes else {}
        yield named_event({"type": "message_start", "message": shapes.message(self._session), **opening})
        yield named_event({"type": "ping"})
        try:
            async with aclosing(reply()) as events:  # type: ignore[type-var] # an async generator
                async for one in events:
                    for chunk in self._events_for(one):
                        yield chunk
        except Exception as error:
            yield named_event(error_body(*body_of(error), self._session.request.id))
            raise

    def _events_for(self, one: ReplyEvent) -> Iterator[bytes]:
        match one:
            case ReplyDelta():
                yield from self._delta_events(one)
            case ReplyProgress():
                yield from self._progress_events(one)
            case Silence():
                yield named_event({"type": "ping"})
            case ReplyEnd(outcome):
                yield from self._closing(outcome)

    def _delta_events(self, one: ReplyDelta) -> Iterator[bytes]:
        delta = one.delta
        if self._parser is None:
            self._parser = self._session.engine.parser(self._session.rendered.prompts[0])
        fields = self._parser.feed(delta.text, delta.token_ids, is_last=delta.is_last, is_cut=delta.is_cut) or {}
        if self._shows_thinking and fields.get("reasoning"):
            yield from self._thinking(fields["reasoning"], MODEL)
        if fields.get("content"):
            yield from self._opening(("text", None), shapes.text(""))
            yield self._delta({"type": "text_delta", "text": fields["content"]})
        for call in fields.get("tool_calls") or []:
            yield from self._call(call)
        if delta.is_last:
            self._stop = shapes.stop(delta.finish_reason, delta.stop_reason, has_calls=self._has_calls)

    def _call(self, call: dict[str, Any]) -> Iterator[bytes]:
        """Yield a new part of a call. The first part of each has its name; parts of two calls do not alternate."""
        block = ("tool_use", call["index"])
        if self._open != block:
            yield from self._opening(block, shapes.tool_use(call, {}))
            self._has_calls = True
        if arguments := (call.get("function") or {}).get("arguments"):
            yield self._delta({"type": "input_json_delta", "partial_json": arguments})

    def _progress_events(self, progress: ReplyProgress) -> Iterator[bytes]:
        if progress.text and self._progress == "comments":
            yield comment(progress.text)
        # a search may go on after the answer began; its progress must not cut the answer in two
        if progress.text and self._progress == "reasoning" and self._open in (None, ("thinking", SEARCH)):
            yield from self._thinking(progress.text + "\n", SEARCH)
        if progress.nodes and self._session.request.shows_nodes:
            yield named_event({"type": "ping", "ponder": {"nodes": replies.nodes(progress.nodes)}})

    def _thinking(self, text: str, signature: str) -> Iterator[bytes]:
        yield from self._opening(("thinking", signature), shapes.thinking("", ""))
        yield self._delta({"type": "thinking_delta", "thinking": text})

    def _opening(self, block: tuple[str, object], content: dict[str, Any]) -> Iterator[bytes]:
        """Begin a block, and end the one before, unless this block is open already."""
        if self._open == block:
            return
        yield from self._end_of_block()
        self._open = block
        yield named_event({"type": "content_block_start", "index": self._index, "content_block": content})

    def _end_of_block(self) -> Iterator[bytes]:
        if self._open is None:
            return
        kind, signature = self._open
        if kind == "thinking":
            yield self._delta({"type": "signature_delta", "signature": signature})
        yield named_event({"type": "content_block_stop", "index": self._index})
        self._index += 1
        self._open = None

    def _closing(self, outcome: Outcome) -> Iterator[bytes]:
        """End the last block and the message. There is a block of text or a call in every message, since clients read the first."""
        if self._open is None or self._open[0] == "thinking":
            yield from self._opening(("text", None), shapes.text(""))
        yield from self._end_of_block()
        ponder = replies.finish_trace(self._session, outcome)
        usage = shapes.usage(self._session, outcome)
        yield named_event({"type": "message_delta", "delta": self._stop, "usage": usage, "ponder": ponder})
        yield named_event({"type": "message_stop"})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named_event({"type": "content_block_delta", "index": self._index, "delta": delta})
