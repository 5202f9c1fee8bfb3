"""Makes one response: reads the conversation that it answers, and runs it whole, as a stream, or in the background."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Response

from app.api import replies
from app.api.reply_events import ReplyEvents, ReplyProgress, Silence
from app.api.responses.background import Job, Jobs
from app.api.responses.conversion import Converted, items_of, own_names
from app.api.responses.output import OutputWriter
from app.api.responses.run import ResponseRun, failed
from app.api.responses.schemas import Item, ResponsesRequest
from app.api.responses.shapes import identified
from app.api.responses.store import ResponseStore, Stored
from app.api.sse import KEEP_ALIVE, EventStream, comment, named_event
from app.errors import InvalidRequest, UnknownPrevious
from app.request import Caller
from app.serving.answerer import Answerer
from app.serving.session import Session

MAX_ITEMS = 4096
"""The most items of a conversation."""


@dataclass(frozen=True, slots=True)
class KeptResponses:
    """The stored responses of one server, those that run in the background, and the most bytes of a conversation."""

    store: ResponseStore
    jobs: Jobs
    max_conversation_bytes: int


@dataclass(frozen=True, slots=True)
class Creation:
    """One response that is made.

    Attributes:
        kept: where it is kept, and where it runs in the background.
        items: the conversation that it answers.
        asked: the converted body.
        response: the `response` object, without output.
        keep_alive: seconds without an event after which a stream sends a sign of life.

    """

    service: Answerer
    kept: KeptResponses
    who: Caller
    items: Sequence[Item]
    asked: Converted
    response: dict[str, Any]
    keep_alive: float

    async def whole(self) -> Response:
        """Return the response at its end."""
        writer = OutputWriter(self.response)
        with own_names(self.asked.positions):
            async with self.service.open(self.asked.request, self.who) as session:
                await ResponseRun(session, self.asked, writer).whole(self._reply(session))
                await self._keep()
                return replies.json_response(self.response, replies.headers(session))

    async def streamed(self) -> Response:
        """Return the stream of the response. What can be refused is refused before."""
        with own_names(self.asked.positions):
            return await replies.stream_response(self.service.open(self.asked.request, self.who), self._events)

    async def in_background(self, *, is_streamed: bool) -> Response:
        """Return the queued response, or the stream of its events. The client may leave."""
        self.kept.jobs.check_room(self.who)
        with own_names(self.asked.positions):
            await self.service.preview(self.asked.request)  # refuses what cannot be served
        job = Job(self.service, self.who, list(self.items), self.asked, self.response)
        reply = replies.json_response(job.snapshot())
        self.kept.jobs.start(self.response["id"], job)
        if is_streamed:
            return EventStream(job.follow(-1, self.keep_alive), {}, AsyncExitStack())
        return reply

    async def _events(self, session: Session) -> AsyncIterator[bytes]:
        writer = OutputWriter(self.response)
        for event in writer.open():
            yield named_event(event)
        try:
            async for one in ResponseRun(session, self.asked, writer).events(self._reply(session)):
                if isinstance(one, dict):
                    if one["type"] in ("response.completed", "response.incomplete"):
                        await self._keep()
                    yield named_event(one)
                elif isinstance(one, Silence):
                    yield KEEP_ALIVE
                elif isinstance(one, ReplyProgress) and one.text and self.asked.chat.progress == "comments":
                    yield comment(one.text)
        except Exception as error:
            for event in failed(writer, error):
                await self._keep()
                yield named_event(event)
            raise

    def _reply(self, session: Session) -> ReplyEvents:
        return ReplyEvents(session, self.keep_alive)

    async def _keep(self) -> None:
        if self.response["store"]:
            await self.kept.store.save(self.who.owner, Stored(self.response, list(self.items)))


async def conversation(kept: KeptResponses, who: Caller, body: ResponsesRequest) -> list[Item]:
    """Return the items before the input and those of the input, references resolved. Raises `InvalidRequest` where they are too many."""
    before: list[Item] = []
    if body.previous_response_id is not None:
        previous = await kept.store.find(who.owner, body.previous_response_id)
        if previous is None:
            message = f"previous_response_id: there is no response `{body.previous_response_id}`. It may have been dropped."
            raise UnknownPrevious(message, parameter="previous_response_id")
        before = [*previous.items, *map(_without_logprobs, previous.response["output"])]
    items = await _resolved(kept.store, who, items_of(body, before))
    if len(items) > MAX_ITEMS or _is_larger(items, kept.max_conversation_bytes):
        field = "input" if body.previous_response_id is None else "previous_response_id"
        most = f"{MAX_ITEMS} items and {kept.max_conversation_bytes} bytes"
        raise InvalidRequest(f"{field}: a conversation has at most {most}; begin a new one.", parameter=field)
    return items


def _without_logprobs(item: Item) -> Item:
    """Return an item of an output as part of a conversation: log-probabilities are many times as large as the text."""
    if not isinstance(content := item.get("content"), list):
        return item
    return {**item, "content": [{name: value for name, value in part.items() if name != "logprobs"} for part in content]}


def _is_larger(items: Sequence[Item], max_bytes: int) -> bool:
    """Whether items take more bytes. It stops there: the same item may be referred to thousands of times."""
    sizes = itertools.accumulate(len(orjson.dumps(item)) for item in items)
    return any(size > max_bytes for size in sizes)


async def _resolved(store: ResponseStore, who: Caller, items: Sequence[Item]) -> list[Item]:
    """Return items with ids and types, and references replaced by what they refer to."""
    wanted = [str(item.get("id")) for item in items if item.get("type") == "item_reference"]
    found = await store.find_items(who.owner, wanted) if wanted else {}
    if missing := [name for name in wanted if name not in found]:
        raise InvalidRequest(f"input: there is no item `{missing[0]}` to refer to.", parameter="input")
    return [
        identified(_without_logprobs(found[str(item["id"])]) if item.get("type") == "item_reference" else item)
        for item in items
    ]
