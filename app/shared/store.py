"""The connection to the store that front ends share: Valkey, or Redis. The only module that imports its client."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError, RedisError  # noqa: A004 - redis-py's own, which is no OSError

from app.errors import SharedStateLost
from app.shared.alone import TIMEOUT_S, Value

SLOWEST_BYTES_PER_S = 10 * 2**20
"""How fast large texts get to the store at least."""

MAX_CONNECTIONS = 16

LAYOUT = 1
"""The version of what the keys mean. Front ends of another version share nothing with this one."""


class Store:
    """Runs scripts in the store. Each script is atomic there, so nothing that belongs together is ever half done.

    Args:
        url: `redis://`, `rediss://` or `unix://`; it may contain a password.
        prefix: the first part of every key. It stands in braces, so that a cluster keeps all keys on one node.

    """

    def __init__(self, url: str, prefix: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_timeout=None,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # whoever calls decides whether to try again
            protocol=2,
        )
        self._client = Redis(connection_pool=pool)
        self._prefix = f"{{{prefix}:{LAYOUT}}}:"
        self._scripts: dict[str, AsyncScript] = {}
        self.where = where(url)

    def key(self, *parts: str) -> str:
        """Return the key of these parts."""
        return self._prefix + ":".join(parts)

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[Value] = (),
        *,
        is_repeatable: bool = True,
        seconds: float = TIMEOUT_S,
    ) -> Any:
        """Run a Lua script, and return what it returns, with texts as bytes. Raises `SharedStateLost`.

        Where the connection breaks, the script is run once more on a new one, unless it is not repeatable. The call may take so many
        seconds, and some more where it sends much.
        """
        size = sum(len(value) for value in arguments if isinstance(value, str | bytes))
        if script not in self._scripts:
            self._scripts[script] = self._client.register_script(script)
        try:
            # The client has no `socket_timeout`, since it waits with `asyncio.wait_for`, which in Python 3.11 loses cancellations.
            async with asyncio.timeout(seconds + size / SLOWEST_BYTES_PER_S):
                try:
                    return await self._scripts[script](keys=list(keys), args=list(arguments))
                except ConnectionError:
                    if not is_repeatable:
                        raise
                return await self._scripts[script](keys=list(keys), args=list(arguments))
        except (RedisError, OSError, TimeoutError) as error:
            message = "The state that this server shares with others cannot be reached."
            raise SharedStateLost(message, why=f"{type(error).__name__}: {error}"[:200]) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose(close_connection_pool=True)


def where(url: str) -> str:
    """Return a URL without what may be secret, for the log."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{address}{parts.path}"
