"""`/v1/responses`: OpenAI's Responses API."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from app.api import replies
from app.api.access import Who
from app.api.chat import StrategyHeader, origin_of
from app.api.disconnects import while_connected
from app.api.dry_run import preview
from app.api.errors import RESPONSES
from app.api.openapi import json_or_stream
from app.api.pools import answerer_of, pools_of
from app.api.responses import elsewhere
from app.api.responses.background import Jobs
from app.api.responses.creation import Creation, KeptResponses, conversation
from app.api.responses.schemas import ResponsesRequest
from app.api.responses.shapes import listed, opened
from app.api.responses.shared_store import SharedResponses
from app.api.responses.sqlite_store import SqliteStore
from app.api.responses.store import Bounds, ResponseStore, Stored
from app.api.responses.truncation import fitting
from app.api.sse import KEEP_ALIVE, EventStream
from app.errors import InvalidRequest, UnknownResponse
from app.request import Caller
from app.settings import Settings
from app.shared.alone import NotShared

router = APIRouter(responses=RESPONSES)

_CONTENT = json_or_stream("The response, or a stream of its events.")


@asynccontextmanager
async def running(settings: Settings, max_body_bytes: int, shared: NotShared) -> AsyncIterator[KeptResponses]:
    """Open the store and run jobs, until the end of the block. `max_body_bytes` are the most of a request."""
    path = settings.responses_path and settings.responses_path.expanduser()
    bounds = Bounds(settings.max_responses, settings.max_response_bytes, settings.max_response_days)
    local = SqliteStore(path, bounds)
    store: ResponseStore = local if shared.runner is None else SharedResponses(shared.runner, shared, bounds, local)
    async with store.running(), Jobs(store, settings.max_background_per_key).running() as jobs:
        shared.receive(jobs.receive)
        yield KeptResponses(store, jobs, 2 * max_body_bytes)


@router.post("/v1/responses", responses=_CONTENT)
async def create_response(http_request: Request, body: ResponsesRequest, who: Who, header: StrategyHeader = None) -> Response:
    """Answer a text or a conversation."""
    service = answerer_of(http_request, body.model)
    kept: KeptResponses = http_request.app.state.responses
    if body.background and not body.store:
        raise InvalidRequest("background: it needs store to be true, since the reply is polled.", parameter="background")
    items = await conversation(kept, who, body)
    asked = await fitting(service.reader, body, items, origin_of(http_request, body.model, header))
    if body.ponder is not None and body.ponder.dry_run:
        return replies.json_response(preview(await service.preview(asked.request)))
    response = opened(body, asked, str(asked.request.adapter or service.names.base))
    creation = Creation(service, kept, who, items, asked, response, http_request.app.state.keep_alive)
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
    kept: KeptResponses = http_request.app.state.responses
    if (job := kept.jobs.find(who, response_id)) is not None:
        if stream:
            return EventStream(job.follow(starting_after, http_request.app.state.keep_alive), {}, AsyncExitStack())
        return replies.json_response(job.snapshot())
    stored = await _find(kept.store, who, response_id)
    if not stream:
        return replies.json_response(stored.response)
    keep_alive = http_request.app.state.keep_alive
    if stored.runs and stored.front_end:
        later = elsewhere.events_at_end(kept.store, who, response_id, keep_alive)
        return EventStream(_joined(later, starting_after), {}, AsyncExitStack())
    if not stored.events:
        raise InvalidRequest("stream: only a response of the background can be streamed again.", parameter="stream")
    return EventStream(_again(stored.events, starting_after), {}, AsyncExitStack())


@router.delete("/v1/responses/{response_id}")
async def delete_response(http_request: Request, response_id: str, who: Who) -> dict[str, Any]:
    """Delete a response. One that runs is cancelled before."""
    kept: KeptResponses = http_request.app.state.responses
    await _stop(http_request, kept, who, response_id)
    if not await kept.store.delete(who.owner, response_id):
        raise _unknown(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(http_request: Request, response_id: str, who: Who) -> Response:
    """Cancel a response that runs in the background. One that has ended stays as it is."""
    kept: KeptResponses = http_request.app.state.responses
    await _stop(http_request, kept, who, response_id)
    response = (await _find(kept.store, who, response_id)).response
    if not response["background"]:
        raise InvalidRequest("response_id: only a response of the background can be cancelled.", parameter="response_id")
    return replies.json_response(response)


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
    kept: KeptResponses = http_request.app.state.responses
    job = kept.jobs.find(who, response_id)
    items = job.items if job is not None else (await _find(kept.store, who, response_id)).items
    items = [listed(item) for item in (items if order == "asc" else items[::-1])]
    start = next((number + 1 for number, item in enumerate(items) if item.get("id") == after), 0) if after else 0
    page = items[start : start + limit]
    ids = [item.get("id", "") for item in page] or [""]
    has_more = start + limit < len(items)
    return {"object": "list", "data": page, "first_id": ids[0], "last_id": ids[-1], "has_more": has_more}


async def _stop(http_request: Request, kept: KeptResponses, who: Caller, response_id: str) -> None:
    """Cancel a response that runs in the background, here or at another front end."""
    if (job := kept.jobs.find(who, response_id)) is not None:
        await kept.jobs.stop(job)
    elif (stored := await kept.store.find(who.owner, response_id)) is not None and stored.front_end:
        await elsewhere.cancel(pools_of(http_request).first.shared, kept.store, who, stored)


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


async def _joined(later: AsyncIterator[bytes], after: int) -> AsyncIterator[bytes]:
    async for part in later:
        if part == KEEP_ALIVE:
            yield part
        else:
            async for event in _again(part, after):
                yield event
