"""HTTP to one replica: its connections, and the limits of its answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from app.engine.replica import ReplicaFailed
from app.reward_models.client import IDLE_CONNECTION_S

CONNECT_S = 3.0
ANSWER_S = 10.0
"""Seconds that a replica may take to accept a connection, and to answer what needs no generation."""

MAX_BODY_BYTES = 16 * 2**20
"""The most bytes of an answer that is no branch's; vLLM's page of metrics has some 100 KiB."""


class Connection:
    """Asks one server. Whatever goes wrong on the way is a `ReplicaFailed`.

    Args:
        url: of the server, without a path.
        api_key: sent to it; None for none.

    """

    def __init__(self, url: str, api_key: str | None) -> None:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._session = aiohttp.ClientSession(
            url,
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # no proxies and no .netrc of the environment
        )

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._session.closed

    async def close(self) -> None:
        """Close all connections, which ends the answers that are still read."""
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float | None = None
    ) -> tuple[int, bytes]:
        """Return the status and the body of an answer that comes at once, or within `seconds`."""
        seconds = ANSWER_S if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds), self.answer(method, path, body) as response:
                return response.status, await read(response, MAX_BODY_BYTES)
        except TimeoutError:
            raise ReplicaFailed(f"{path} was not answered within {seconds:g} s") from None

    @asynccontextmanager
    async def answer(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield an answer whose body is read by the caller. An answer that is not read to its end takes its connection with it."""
        if self._session.closed:
            raise ReplicaFailed("it has left")
        data = None if body is None else orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
        try:
            async with self._session.request(method, path, data=data, headers=headers, allow_redirects=False) as response:
                try:
                    yield response
                except BaseException:
                    response.close()  # leave the connection, so that the replica sees that nobody reads
                    raise
        except (aiohttp.ClientError, OSError) as error:
            raise ReplicaFailed(f"{type(error).__name__}: {error}"[:200]) from None


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body of an answer. Raises `ReplicaFailed` where it is longer than the limit."""
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        if (size := size + len(chunk)) > limit:
            raise ReplicaFailed(f"an answer of more than {limit} bytes")
    return b"".join(chunks)


def message_of(body: bytes) -> str:
    """Return the message of vLLM's errors; empty where there is none."""
    try:
        error = orjson.loads(body)
        return str(error.get("error", error).get("message", ""))[:500]
    except (orjson.JSONDecodeError, AttributeError):
        return ""
