"""Which front end has which search trace, and asking that one for it.

Each front end keeps the names of its traces in the store, as a set that lives as long as it does. A front end that is asked for a trace
of another one asks it over HTTP, with the caller's own key.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Collection

import httpx

from app.errors import SharedStateLost
from app.shared.alone import Name, PeerCall, PeerReply, Value
from app.shared.front_ends import LIFE_S, FrontEnds
from app.shared.store import Store

logger = logging.getLogger("ponder.shared")

REFRESH_S = 1.0
"""Seconds after which a set is refreshed that has not changed."""

ASK_S = 5.0
"""Seconds that another front end may take to answer."""

MAX_REPLY_BYTES = 64 * 2**20

KEEP_NAMES = """
-- KEYS: a set; ARGV: milliseconds that it lives, 1 to begin it anew, how many names are removed, these, then those that are added
if ARGV[2] == '1' then redis.call('DEL', KEYS[1]) end
for place = 4, 3 + ARGV[3] do redis.call('SREM', KEYS[1], ARGV[place]) end
for place = 4 + ARGV[3], #ARGV do redis.call('SADD', KEYS[1], ARGV[place]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('SCARD', KEYS[1])
"""

FIND_NAME = """
-- KEYS: sets; ARGV: a name
for place = 1, #KEYS do
    if redis.call('SISMEMBER', KEYS[place], ARGV[1]) == 1 then return place end
end
return 0
"""


class SharedTraces:
    """The traces of all front ends.

    Attributes:
        names: returns the owners and ids of the traces that are kept here.

    """

    def __init__(self, store: Store, front_ends: FrontEnds) -> None:
        self.names: Callable[[], Collection[Name]] = tuple
        self._store = store
        self._front_ends = front_ends
        self._client = httpx.AsyncClient(timeout=ASK_S, follow_redirects=False, trust_env=False)
        self._told: set[Name] | None = None
        self._refreshed = 0.0

    async def run(self) -> None:
        """Tell the store which traces are kept here, until it is cancelled."""
        while True:
            await self._front_ends.next_beat()
            try:
                await self._tell()
            except SharedStateLost:
                self._told = None

    async def _tell(self) -> None:
        kept = set(self.names())
        now, is_new = time.monotonic(), self._told is None
        told = self._told or set()
        if kept == told and not is_new and now - self._refreshed < REFRESH_S:
            return
        removed, added = [_digest(name) for name in told - kept], [_digest(name) for name in kept - told]
        arguments: tuple[Value, ...] = (int(LIFE_S * 1000), int(is_new), len(removed), *removed, *added)
        number = await self._store.run(KEEP_NAMES, (self._key(self._front_ends.id),), arguments)
        # A store that was emptied meanwhile has fewer.
        self._told, self._refreshed = (kept if number == len(kept) else None), now

    async def ask(self, owner: str, trace_id: str, call: PeerCall) -> PeerReply | None:
        """Call the front end that has a trace, and return its reply; None where nobody has it, or does not answer."""
        others = list(self._front_ends.others())
        try:
            keys = [self._key(one) for one in others]
            place = await self._store.run(FIND_NAME, keys, (_digest((owner, trace_id)),)) if others else 0
        except SharedStateLost:
            return None
        url = self._front_ends.url_of(others[place - 1]) if place else None
        if url is None:
            return None
        try:
            async with self._client.stream(call.method, url + call.path, headers=call.headers, content=call.content) as reply:
                body = bytearray()
                async for part in reply.aiter_bytes():
                    body += part
                    if len(body) > MAX_REPLY_BYTES:
                        return None
                return PeerReply(reply.status_code, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            logger.warning("another front end could not be asked for a trace: %s: %s", type(error).__name__, error)
            return None

    async def close(self) -> None:
        """Close the connections to other front ends."""
        await self._client.aclose()

    def _key(self, front_end: str) -> str:
        return self._store.key("traces", front_end)


def _digest(name: Name) -> bytes:
    """Return what stands for a trace in the store: its id may be as long as a caller likes."""
    return hashlib.sha256("\0".join(name).encode("utf-8", "surrogatepass")).digest()[:16]
