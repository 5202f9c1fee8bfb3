"""Server-sent events, and work that is cancelled when its client disconnects."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import Disconnected

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

T = TypeVar("T")


def event(data: dict[str, Any]) -> bytes:
    """Return one event with a JSON payload."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. If the client disconnects first, cancel the work, wait for its end, and raise `Disconnected`."""
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(_until_disconnected(receive))
        worker = group.create_task(_outcome(work))
        await asyncio.wait((watcher, worker), return_when=asyncio.FIRST_COMPLETED)
        watcher.cancel()
        if not worker.done():
            worker.cancel()
    if worker.cancelled():
        message = "The client disconnected."
        raise Disconnected(message)
    outcome = worker.result()
    if isinstance(outcome, _Failure):
        raise outcome.error
    return outcome


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


async def _outcome(work: Awaitable[T]) -> T | _Failure:
    """Return an error as a value: a task group would wrap it in an exception group."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - raised again by `while_connected`
        return _Failure(error)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A streaming response that cancels its source as soon as the client disconnects, also while nothing is sent.

    Args:
        events: the source. An error that it raises at its end was sent in its last event.
        headers: the headers of this response; every stream has some more.
        resources: closed when the response has ended, with the error that ended it if there is one.

    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], headers: dict[str, str], resources: AsyncExitStack) -> None:
        self._events = events
        self._resources = resources
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        with suppress(Exception):
            async with self._resources:
                await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with aclosing(self._events) as events:  # type: ignore[type-var] # an async generator in all uses
                async for chunk in events:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})
