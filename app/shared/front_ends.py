"""The front ends that live now: each says so several times a second, together with what the others should know of it.

A beat is one call of the store. It is also the notification: its answer has the beats of all others, the newest revision of each
table, and what was posted to this front end. So there is no subscription that could miss a message.
"""

import asyncio
import hashlib
import hmac
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import SharedStateLost
from app.shared.alone import Receive
from app.shared.scripts import BEAT, LEAVE, POST
from app.shared.store import Store
from app.shared.table import ERROR_S, SharedTable, revision_of

logger = logging.getLogger("ponder.shared")

BEAT_S = 0.1
"""Seconds between two beats. Others know of a change after that, and of a key's branches."""

MANY, SLOWEST_BEAT_S = 10, 1.0
"""Above so many front ends, beats get rarer in proportion, down to one in so many seconds: each has what all others say."""

LIFE_S = 3.0
"""Seconds after its last beat for which a front end counts as alive."""

COMPARE_S = 10.0
"""Seconds after which tables are compared whole, should the store have lost something without being noticed."""

MAX_FRONT_ENDS = 256
MAX_BEAT_BYTES = 256 * 1024
MAX_MAIL = 1000

HASH_CHARS, HELD_CHARS = 64, 16
"""The length of a version's hash, with which its content ends, and how much of it is told."""

Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Beat(BaseModel):
    """What a front end says of itself.

    Attributes:
        url: where it can be called.
        seal: proves that one who knows the keys of this server has said so.
        branches: owner -> branches that run or wait.
        held: the beginnings of the hashes of the adapter versions that it has in its engine.
        seen: name of a table -> the revision that it follows.

    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: Annotated[str, Field(max_length=512, pattern=r"^https?://[^\s/?#@]+[^\s?#@]*$")]
    seal: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    branches: dict[Annotated[str, Field(max_length=64)], Count] = {}
    held: Annotated[frozenset[Annotated[str, Field(max_length=HELD_CHARS)]], Field(max_length=1024)] = frozenset()
    seen: dict[Annotated[str, Field(max_length=64)], Annotated[int, Field(ge=0, le=2**53)]] = {}


class FrontEnds:
    """This front end and the others.

    Args:
        store: what they share.
        url: where others can call this one.
        secret: what all front ends know. Callers' keys are sent only to a URL that was announced by one who knows it.

    Attributes:
        id: of this one, new at each start.
        tables: those that are followed; each is run beside this.
        receive: called with each message that another one has posted.
        branches: returns owner -> branches that run or wait here.
        held: returns the contents of the adapter versions in this front end's engine.

    """

    def __init__(self, store: Store, url: str, secret: bytes = b"") -> None:
        self.id = secrets.token_hex(8)
        self.tables: list[SharedTable[Any]] = []
        self.receive: Receive = lambda _message: None
        self.branches: Callable[[], Mapping[str, int]] = dict
        self.held: Callable[[], Iterable[str]] = tuple
        self._store = store
        self._url = url
        self._secret = secret
        self._keys = (store.key("front-ends"), store.key("beats"))
        self._others: dict[str, Beat] = {}
        self._last_seen: dict[str, float] = {}
        self._up_since: float | None = None
        self._is_told_lost = False
        self._heard = self._compared = -math.inf
        self._beaten = asyncio.Condition()

    @property
    def is_up(self) -> bool:
        """Whether the last beat reached the store."""
        return self._up_since is not None

    def others(self) -> Mapping[str, Beat]:
        """Return the other front ends that live, by their ids; none where the store has been lost for `LIFE_S`."""
        return self._others if time.monotonic() - self._heard < LIFE_S else {}

    def has_died(self, front_end: str) -> bool:
        """Whether another front end has ended. Nobody dies while the store is away, nor shortly after it came back."""
        if front_end == self.id or self._up_since is None:
            return False
        last = max(self._last_seen.get(front_end, 0.0), self._up_since)
        return time.monotonic() - last > LIFE_S

    def is_held_elsewhere(self, content: str) -> bool:
        """Whether another front end has a version of this content in its engine, as far as is known."""
        return any(content[-HASH_CHARS:][:HELD_CHARS] in other.held for other in self.others().values())

    def url_of(self, front_end: str) -> str | None:
        """Return where another front end can be called, None where it is not known for certain."""
        beat = self.others().get(front_end)
        if beat is None or not hmac.compare_digest(beat.seal, self._seal(front_end, beat.url)):
            return None
        return beat.url

    def _seal(self, front_end: str, url: str) -> str:
        return hmac.new(self._secret, f"{front_end} {url}".encode(), hashlib.sha256).hexdigest()

    async def post(self, front_end: str, message: bytes) -> None:
        """Leave a message for another front end. Raises `SharedStateLost`."""
        await self._store.run(POST, (self._mail(front_end),), (message, MAX_MAIL, int(LIFE_S * 1000)))

    async def next_beat(self) -> None:
        """Wait until this front end has heard of the others once more, or could not."""
        async with self._beaten:
            await self._beaten.wait()

    @asynccontextmanager
    async def running(self, *others: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Beat, follow the tables, and run `others`, which never end by themselves, within this block."""
        async with asyncio.TaskGroup() as group:
            tables = (table.run() for table in self.tables)
            tasks = [group.create_task(one) for one in (self._run(), *tables, *others)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
        try:
            await self._store.run(LEAVE, self._keys, (self.id,))
        except SharedStateLost:
            logger.debug("the others find out by themselves that this front end has ended")

    async def _run(self) -> None:
        while True:
            try:
                beats, mail, newest = await self._store.run(BEAT, self._beat_keys(), self._beat())
                self._hear(beats)
                self._compare([revision_of(one) for one in newest])
                for message in mail:
                    self.receive(message)
            except SharedStateLost as lost:
                self._lose(lost.why)
            except Exception:
                logger.exception("a beat failed")  # which must not end the server
                await asyncio.sleep(ERROR_S)
            async with self._beaten:
                self._beaten.notify_all()
            await asyncio.sleep(min(BEAT_S * max(1.0, (len(self._others) + 1) / MANY), SLOWEST_BEAT_S))

    def _beat_keys(self) -> Sequence[str]:
        return (*self._keys, self._mail(self.id), *(table.key for table in self.tables))

    def _beat(self) -> tuple[str, int, str]:
        beat = Beat(
            url=self._url,
            seal=self._seal(self.id, self._url),
            branches=dict(self.branches()),
            held=frozenset(content[-HASH_CHARS:][:HELD_CHARS] for content in self.held()),
            seen={table.name: table.seen for table in self.tables},
        )
        return self.id, int(LIFE_S * 1000), beat.model_dump_json()

    def _lose(self, why: str) -> None:
        if not self._is_told_lost:
            message = "the shared state at %s cannot be reached (%s): requests are served on with what is known here"
            logger.error(message, self._store.where, why)
            self._is_told_lost = True
        self._up_since = None

    def _hear(self, beats: Sequence[bytes]) -> None:
        now = time.monotonic()
        others = {}
        for raw, text in zip(beats[: 2 * MAX_FRONT_ENDS : 2], beats[1 : 2 * MAX_FRONT_ENDS : 2], strict=True):
            name = raw.decode(errors="replace")[:64]
            if name != self.id and (beat := _parsed(name, text)) is not None:
                others[name] = beat
        self._others = others
        self._last_seen = {name: at for name, at in self._last_seen.items() if now - at < 10 * LIFE_S} | dict.fromkeys(
            others, now
        )
        self._heard = now
        if self._up_since is None:
            logger.info("the shared state at %s is used, with %d other front ends", self._store.where, len(others))
            self._up_since, self._is_told_lost = now, False
            self._compared = -math.inf

    def _compare(self, newest: Sequence[int]) -> None:
        """Tell the tables what is newest. All of them are compared whole after an interruption, and now and then."""
        is_doubtful = self._heard - self._compared >= COMPARE_S
        if is_doubtful:
            self._compared = self._heard
        for table, revision in zip(self.tables, newest, strict=True):
            table.notice(revision, is_doubtful=is_doubtful)

    def _mail(self, front_end: str) -> str:
        return self._store.key("mail", front_end)


def _parsed(name: str, text: bytes) -> Beat | None:
    try:
        return Beat.model_validate_json(text) if len(text) <= MAX_BEAT_BYTES else None
    except ValidationError as error:
        logger.debug("what the front end %s says is left out: %s", name, error)
        return None
