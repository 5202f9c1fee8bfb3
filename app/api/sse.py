"""Server-sent events."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.disconnects import while_connected

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def event(data: dict[str, Any]) -> bytes:
    """Return one event with a JSON payload."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def named_event(data: dict[str, Any]) -> bytes:
    """Return one event with a JSON payload, named after its `type`."""
    return f"event: {data['type']}\n".encode() + event(data)


def comment(text: str) -> bytes:
    """Return a comment, which clients do not read as an event. Each line of the text is a line of the comment."""
    return b"".join(b": " + line.encode() + b"\n" for line in text.splitlines()) + b"\n"


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
