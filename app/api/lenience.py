"""What clients and proxies do differently, made the same before the routes see it.

The classes are plain ASGI middleware, as those of `app.api.middleware`.
"""

import asyncio
import zlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import response_to
from app.errors import UnsupportedMedia

PLAYGROUND = "/playground"

CHUNK_BYTES = 65_536
"""The most bytes of a decompressed body that are handed on at a time."""

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_ENCODINGS = ("gzip", "x-gzip", "deflate")


class Lenience:
    """Answers HEAD as GET without the body, takes a path with a slash at its end, and a JSON body without a content type.

    A proxy may pass on the prefix of `root_path` or take it off. A page in a browser, which sends an `Origin`, must say that its body
    is JSON: a browser then asks this server first whether the page may send it.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "path": self._path(scope["path"])}
        headers = MutableHeaders(raw=list(scope["headers"]))
        if scope["method"] == "POST" and not {"content-type", "origin"} & set(headers.keys()):
            headers["content-type"] = "application/json"
            scope["headers"] = headers.raw
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)

    def _path(self, path: str) -> str:
        if self._root_path and f"{path}/".startswith(f"{self._root_path}/"):
            path = path[len(self._root_path) :]
        # the playground's files are served under their own names alone
        return path if path.startswith(f"{PLAYGROUND}/") else path.rstrip("/") or "/"


class Decompression:
    """Decompresses bodies that are sent with `Content-Encoding: gzip` or `deflate`, piece by piece.

    It stands outside of `BodyLimit`, which counts the decompressed bytes and stops reading at the limit. So a small body that
    unpacks to a huge one is refused like any other huge one, and never held in memory.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        encoding = Headers(scope=scope).get("content-encoding", "identity").strip().lower() if scope["type"] == "http" else ""
        if encoding in ("", "identity"):
            await self._app(scope, receive, send)
            return
        if encoding not in _ENCODINGS:
            refusal = UnsupportedMedia(f"The content encoding {encoding[:64]!r} is not served; send gzip, deflate, or none.")
            await response_to(refusal)(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0] not in (b"content-encoding", b"content-length")]
        await self._app({**scope, "headers": headers}, _Inflated(receive), send)


class _Inflated:
    """A `receive` whose body is decompressed."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._is_last = False
        self._is_done = False

    async def __call__(self) -> Message:
        packed = self._inflater.unconsumed_tail
        if self._is_done:
            return await self._receive()
        if packed or self._is_last:
            await asyncio.sleep(0)  # a body that unpacks to many pieces must not hold up the others
        else:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            packed, self._is_last = message.get("body", b""), not message.get("more_body", False)
        try:
            body = self._inflater.decompress(packed, CHUNK_BYTES)
        except zlib.error as error:
            raise HTTPException(400, "The body is not what its content encoding says: it cannot be decompressed.") from error
        self._is_done = self._inflater.eof  # what follows the end of the compressed data is left
        if not self._is_done and self._is_last and not self._inflater.unconsumed_tail and len(body) < CHUNK_BYTES:
            raise HTTPException(400, "The compressed body is cut off.")
        return {"type": "http.request", "body": body, "more_body": not self._is_done}
