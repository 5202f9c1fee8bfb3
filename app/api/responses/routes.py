"""`/v1/responses`: OpenAI's Responses API."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from app.api import replies
from app.api.chat import StrategyHeader, Who, origin_of
from app.api.disconnects import while_connected
from app.api.errors import RESPONSES
from app.api.reply_events import ReplyEvents, ReplyProgress, Silence
from app.api.responses.background import Job, Jobs, encoded
from app.api.responses.conversion import Converted, converted, items_of, own_names
from app.api.responses.output import OutputWriter
from app.api.responses.run import ResponseRun, failed
from app.api.responses.schemas import Item, ResponsesRequest
from app.api.responses.shapes import identified, listed, opened
from app.api.responses.store import Bounds, ResponseStore, Stored
from app.api.sse import KEEP_ALIVE, EventStream, comment
from app.errors import InvalidRequest, UnknownPrevious, UnknownResponse, first_error
from app.request import Caller
from app.serving.service import Service
from app.serving.session import Session
from app.settings import Settings

router = APIRouter(responses=RESPONSES)

_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The response, or a stream of its events.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


@dataclass(frozen=True, slots=True)
class Kept:
    """What the routes share: the stored responses, and those that run in the background."""

    store: ResponseStore
    jobs: Jobs


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Kept]:
    """Open the store and run jobs, until the end of the block."""
    path = settings.responses_path and settings.responses_path.expanduser()
    store = ResponseStore(path, Bounds(settings.max_responses, settings.max_response_bytes, settings.max_response_days))
    try:
        async with Jobs(store, settings.max_background_per_key).running() as jobs:
            yield Kept(store, jobs)
    finally:
        await store.close()


@router.post("/v1/responses", responses=_CONTENT)
async def create_response(http_request: Request, body: ResponsesRequest, who: Who, header: StrategyHeader = None) -> Response:
    """Answer a text or a conversation."""
    service: Service = http_request.app.state.service
    kept: Kept = http_request.app.state.responses
    if body.background and not body.store:
        raise InvalidRequest("background: it needs store to be true, since the reply is polled.", parameter="background")
    items = await _conversation(kept.store, who, body)
    asked = converted(body, items, origin_of(http_request, header))
    if body.ponder is not None and body.ponder.dry_run:
        return _json(replies.preview(await service.preview(asked.request)))
    response = opened(body, asked, str(asked.request.adapter or service.engine.card.name))
    creation = _Creation(http_request, service, kept, who, items, asked, response)
    if body.background:
        return await creation.in_background(is_streamed=body.stream)
    if body.stream:
        return await creation.streamed()
    return await while_connected(http_request.receive, creation.whole())


@router.get("/v1/responses/{response_id}", responses=_CONTENT)
async def get_response(
    http_request: Request,
    response_id: str,
    who: Who,
    *,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1, le=2**31)] = -1,
) -> Response:
    """Return a response that is kept or runs in the background; with `stream`, its events behind `starting_after`."""
    kept: Kept = http_request.app.state.responses
    if (job := kept.jobs.find(who, response_id)) is not None:
        if stream:
            return EventStream(job.follow(starting_after, http_request.app.state.keep_alive), {}, AsyncExitStack())
        return _json(job.snapshot())
    stored = await _find(kept.store, who, response_id)
    if not stream:
        return _json(stored.response)
    if not stored.events:
        raise InvalidRequest("stream: only a response of the background can be streamed again.", parameter="stream")
    return EventStream(_again(stored.events, starting_after), {}, AsyncExitStack())


@router.delete("/v1/responses/{response_id}")
async def delete_response(http_request: Request, response_id: str, who: Who) -> dict[str, Any]:
    """Delete a response. One that runs is cancelled before."""
    kept: Kept = http_request.app.state.responses
    if (job := kept.jobs.find(who, response_id)) is not None:
        await kept.jobs.stop(job)
    if not await kept.store.delete(who.owner, response_id):
        raise _unknown(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(http_request: Request, response_id: str, who: Who) -> Response:
    """Cancel a response that runs in the background. One that has ended stays as it is."""
    kept: Kept = http_request.app.state.responses
    if (job := kept.jobs.find(who, response_id)) is not None:
        await kept.jobs.stop(job)
    response = (await _find(kept.store, who, response_id)).response
    if not response["background"]:
        raise InvalidRequest("response_id: only a response of the background can be cancelled.", parameter="response_id")
    return _json(response)


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    http_request: Request,
    response_id: str,
    who: Who,
    *,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(max_length=256)] = None,
) -> dict[str, Any]:
    """List the items that a response answered, those of the conversation before it too."""
    kept: Kept = http_request.app.state.responses
    job = kept.jobs.find(who, response_id)
    items = job.items if job is not None else (await _find(kept.store, who, response_id)).items
    items = [listed(item) for item in (items if order == "asc" else items[::-1])]
    start = next((number + 1 for number, item in enumerate(items) if item.get("id") == after), 0) if after else 0
    page = items[start : start + limit]
    ids = [item.get("id", "") for item in page] or [""]
    has_more = start + limit < len(items)
    return {"object": "list", "data": page, "first_id": ids[0], "last_id": ids[-1], "has_more": has_more}


@dataclass(frozen=True, slots=True)
class _Creation:
    """One response that is made."""

    http_request: Request
    service: Service
    kept: Kept
    who: Caller
    items: Sequence[Item]
    asked: Converted
    response: dict[str, Any]

    async def whole(self) -> Response:
        """Return the response at its end."""
        writer = OutputWriter(self.response)
        with own_names():
            async with self.service.open(self.asked.request, self.who) as session:
                await ResponseRun(session, self.asked, writer).whole(self._reply(session))
                await self._keep()
                return _json(self.response, replies.headers(session))

    async def streamed(self) -> Response:
        """Return the stream of the response. What can be refused is refused before."""
        async with AsyncExitStack() as stack:
            with own_names():
                session = await stack.enter_async_context(self.service.open(self.asked.request, self.who))
            return EventStream(self._events(session), replies.headers(session), stack.pop_all())

    async def in_background(self, *, is_streamed: bool) -> Response:
        """Return the queued response, or the stream of its events. The client may leave."""
        self.kept.jobs.check_room(self.who)
        with own_names():
            await self.service.preview(self.asked.request)  # refuses what cannot be served
        job = Job(self.service, self.who, list(self.items), self.asked, self.response)
        reply = _json(job.snapshot())
        self.kept.jobs.start(self.response["id"], job)
        if is_streamed:
            return EventStream(job.follow(-1, self.http_request.app.state.keep_alive), {}, AsyncExitStack())
        return reply

    async def _events(self, session: Session) -> AsyncIterator[bytes]:
        writer = OutputWriter(self.response)
        for event in writer.open():
            yield encoded(event)
        try:
            async for one in ResponseRun(session, self.asked, writer).events(self._reply(session)):
                if isinstance(one, dict):
                    if one["type"] in ("response.completed", "response.incomplete"):
                        await self._keep()
                    yield encoded(one)
                elif isinstance(one, Silence):
                    yield KEEP_ALIVE
                elif isinstance(one, ReplyProgress) and one.text and self.asked.chat.progress == "comments":
                    yield comment(one.text)
        except Exception as error:  # noqa: BLE001 - raised again after it was sent
            for event in failed(writer, error):
                await self._keep()
                yield encoded(event)
            raise first_error(error) from None

    def _reply(self, session: Session) -> ReplyEvents:
        return ReplyEvents(session, self.http_request.app.state.keep_alive)

    async def _keep(self) -> None:
        if self.response["store"]:
            await self.kept.store.save(self.who.owner, Stored(self.response, list(self.items)))


async def _conversation(store: ResponseStore, who: Caller, body: ResponsesRequest) -> list[Item]:
    """Return the items before the input and those of the input, references resolved."""
    before: list[Item] = []
    if body.previous_response_id is not None:
        previous = await store.find(who.owner, body.previous_response_id)
        if previous is None:
            message = f"previous_response_id: there is no response `{body.previous_response_id}`. It may have been dropped."
            raise UnknownPrevious(message, parameter="previous_response_id")
        before = [*previous.items, *previous.response["output"]]
    return await _resolved(store, who, items_of(body, before))


async def _resolved(store: ResponseStore, who: Caller, items: Sequence[Item]) -> list[Item]:
    """Return items with ids and types, and references replaced by what they refer to."""
    wanted = [str(item.get("id")) for item in items if item.get("type") == "item_reference"]
    found = await store.find_items(who.owner, wanted) if wanted else {}
    if missing := [name for name in wanted if name not in found]:
        raise InvalidRequest(f"input: there is no item `{missing[0]}` to refer to.", parameter="input")
    return [identified(found[str(item["id"])] if item.get("type") == "item_reference" else item) for item in items]


async def _find(store: ResponseStore, who: Caller, response_id: str) -> Stored:
    stored = await store.find(who.owner, response_id)
    if stored is None:
        raise _unknown(response_id)
    return stored


def _unknown(response_id: str) -> UnknownResponse:
    return UnknownResponse(f"There is no response `{response_id}`. It may have been dropped.", parameter="response_id")


async def _again(events: bytes, after: int) -> AsyncIterator[bytes]:
    for event in events.split(b"\n\n")[after + 1 : -1]:
        yield event + b"\n\n"


def _json(content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), media_type="application/json", headers=headers)
