"""Runs one admitted request of the Responses API, and writes its events."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from app.api import replies
from app.api.errors import body_of
from app.api.logprobs import chat_logprobs
from app.api.reasoning import is_answer, without_reasoning
from app.api.reply_events import ReplyDelta, ReplyEnd, ReplyEvent, ReplyEvents, ReplyProgress, Silence
from app.api.responses.conversion import Converted
from app.api.responses.output import Event, OutputWriter
from app.api.responses.shapes import ending
from app.engine.base import ReplyParser
from app.serving.session import Session
from strategies.core.values import Delta


class ResponseRun:
    """The run of one response.

    Args:
        session: the admitted request.
        asked: the converted body.
        writer: of the response, which was opened.

    """

    def __init__(self, session: Session, asked: Converted, writer: OutputWriter) -> None:
        self._session = session
        self._asked = asked
        self._writer = writer
        self._progress = asked.chat.progress
        self._parser: ReplyParser | None = None
        self._has_answer = False

    async def events(self, reply: ReplyEvents) -> AsyncIterator[Event | ReplyProgress | Silence]:
        """Yield the events. Between them come the silences, and the progress of a search as it is. Raises what ended the search."""
        shown = {"ponder": replies.ponder_opening(self._session)} if self._session.request.shows_nodes else {}
        for event in self._writer.begin(**shown):
            yield event
        async with aclosing(reply()) as received:  # type: ignore[type-var] # an async generator
            async for one in received:
                if isinstance(one, Silence | ReplyProgress):
                    yield one
                for event in self._events_for(one):
                    yield event

    async def whole(self, reply: ReplyEvents) -> None:
        """Run to the end. The writer's response then has everything."""
        async for _ in self.events(reply):
            pass

    def _events_for(self, one: ReplyEvent) -> Iterator[Event]:
        match one:
            case ReplyDelta(choice=0, delta=delta):
                yield from self._delta(delta)
            case ReplyProgress(text=text, nodes=nodes):
                if text and self._progress == "reasoning":
                    yield from self._writer.progress(text)
                if nodes and self._session.request.shows_nodes:
                    yield from self._writer.nodes(replies.nodes(nodes))
            case ReplyEnd(outcome):
                self._writer.response["model"] = self._session.model
                yield from self._writer.end(ending(self._session, outcome))
            case _:
                pass

    def _delta(self, delta: Delta) -> Iterator[Event]:
        if self._parser is None:
            self._parser = self._session.engine.parser(self._session.rendered.prompts[0])
            if delta.is_last:  # the whole answer at once
                yield from self._say(self._parser.parse(delta.text, delta.token_ids, is_cut=delta.is_cut), delta)
                return
        fields = self._parser.feed(delta.text, delta.token_ids, is_last=delta.is_last, is_cut=delta.is_cut)
        yield from self._say(fields or {}, delta)

    def _say(self, fields: Mapping[str, Any], delta: Delta) -> Iterator[Event]:
        entries = delta.logprobs
        if not self._asked.chat.include_reasoning:
            fields, _, entries = without_reasoning(fields, delta, has_answer=self._has_answer)
            self._has_answer = self._has_answer or is_answer(fields)
        logprobs = chat_logprobs(entries, self._session.request.num_logprobs, as_ids=False)
        yield from self._writer.message(fields, logprobs["content"] if logprobs else [])


def failed(writer: OutputWriter, error: Exception) -> Iterator[Event]:
    """Yield the last event of a response that an error ended."""
    status, body = body_of(error)
    yield from writer.fail(status, body["error"]["message"])
