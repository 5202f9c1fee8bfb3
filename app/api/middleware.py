"""What happens to every HTTP request: an id, a line in the log, a limit on its body, and a check of its host.

The classes are plain ASGI middleware, so that no buffer lies between the server and a stream.
"""

import ipaddress
import logging
import math
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import response_to
from app.errors import Forbidden, TooLarge

logger = logging.getLogger("ponder.access")

VALUE_MARKS = (b",", b"[", b"{")
"""What stands before each value of a JSON text but the first."""

_SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class RequestId:
    """Gives each request an id, returns it as `X-Request-Id`, and logs one line. A caller's own id is kept if it is harmless."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        start, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            logger.info(
                "%s %s %s %.0f ms", scope["method"], scope["path"].encode("unicode_escape").decode(), status or "-",
                (time.monotonic() - start) * 1000, extra={"request_id": request_id},
            )  # fmt: skip


class UnexpectedErrors:
    """Answers an error that no handler knows. Starlette does it too, but outside the layers that add an id, CORS and Anthropic's shape.

    Once a response has begun the error goes on, so that the HTTP server ends the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if scope["type"] != "http" or has_started:
                raise
            await response_to(error)(scope, receive, send)


class LocalHost:
    """Refuses requests whose `Host` is not a name of this machine. For servers without keys, which trust the loopback interface.

    A web page of another site can make its host name point to the loopback interface (DNS rebinding). A browser on this machine then
    lets that page call this server as if the page came from it. The `Host` header still has the name of the other site.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = {"localhost", host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_local(Headers(scope=scope).get("host", "localhost")):
            response = response_to(
                Forbidden("Without API keys this server accepts only names of its own machine in the `Host` header.")
            )
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_local(self, host: str) -> bool:
        name = host.lower().rpartition(":")[0] if re.search(r":\d+$", host) else host.lower()
        try:
            return name in self._names or ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return name.endswith(".localhost")


class BodyLimit:
    """Answers 413 to a body that is larger than its limit, as declared in its header or as counted while it arrives.

    Args:
        app: the next ASGI application.
        max_bytes: returns the limit of a path.
        max_values: the most values that the JSON of a body may have, by its marks. Images make a body larger, and do not make more
            values of it: to read millions takes seconds, in which the server does nothing else.

    """

    def __init__(self, app: ASGIApp, max_bytes: Callable[[str], int], max_values: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_values = max_values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes, headers = self._max_bytes(scope["path"]), Headers(scope=scope)
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > max_bytes:
            await self._refuse(max_bytes, scope, receive, send)
            return
        received = values = 0
        is_refused = has_started = False
        max_values = self._max_values if "json" in headers.get("content-type", "").lower() else math.inf

        async def receive_counted() -> Message:
            nonlocal received, values, is_refused
            message = await receive()
            body = message.get("body", b"")
            received += len(body)
            values += sum(map(body.count, VALUE_MARKS))
            is_refused = received > max_bytes or values > max_values
            if is_refused:
                raise TooLarge(_too_large(max_bytes))
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal has_started
            if not is_refused:
                has_started = True
                await send(message)

        # FastAPI answers an error in reading a body with a 400 of its own. `send_unless_refused` holds that answer back.
        with suppress(TooLarge):
            await self._app(scope, receive_counted, send_unless_refused)
        if is_refused and not has_started:
            await self._refuse(max_bytes, scope, receive, send)

    async def _refuse(self, max_bytes: int, scope: Scope, receive: Receive, send: Send) -> None:
        response = response_to(TooLarge(_too_large(max_bytes)))
        response.headers["Connection"] = "close"
        await response(scope, receive, send)


def _too_large(max_bytes: int) -> str:
    return f"The body is larger than {max_bytes} bytes, or has too many values."
