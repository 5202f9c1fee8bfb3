"""The store of responses that several front ends share."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from app.api.responses.scripts import DELETE, FIND, HOLDERS, SAVE
from app.api.responses.sqlite_store import SqliteStore
from app.api.responses.store import Bounds, Stored, with_stop
from app.errors import SharedStateLost
from app.shared.alone import LARGE_S, NotShared, ScriptRunner, Value

logger = logging.getLogger("ponder.api")

RETURN_S = 1.0
"""Seconds between two attempts to give the store what was kept here while it was away."""

LARGE_BYTES = 2**17
"""From this size on, a response is parsed in a thread."""

_SECONDS_PER_DAY = 86_400


class _Item(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: str


class _Response(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: str
    status: str
    background: bool = False
    output: list[_Item]


class SharedResponses:
    """A `ResponseStore` of several front ends.

    What cannot be saved while the shared store is away is kept here, and given to it when it is back.

    Args:
        runner: runs scripts in the store.
        shared: tells which front ends live.
        bounds: how much is kept.
        local: keeps responses while the store is away.

    """

    def __init__(self, runner: ScriptRunner, shared: NotShared, bounds: Bounds, local: SqliteStore) -> None:
        self._runner = runner
        self._shared = shared
        self._bounds = bounds
        self._seconds = int(bounds.max_days * _SECONDS_PER_DAY)
        self._local = local
        self._keys = (runner.key("responses"),)
        self._pending: set[tuple[str, str]] = set()
        self._saving = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep responses within this block."""
        async with self._local.running():
            self._pending = set(await self._local.names())  # of a front end that ended while the store was away
            returning = asyncio.create_task(self._give_back())
            try:
                yield
            finally:
                returning.cancel()

    async def save(self, owner: str, stored: Stored) -> None:
        """Keep a response."""
        name = (owner, stored.response["id"])
        # One after the other: background responses begin in the order in which they came, and none is overtaken by an older state of it.
        async with self._saving:
            try:
                await self._save(owner, stored)
            except SharedStateLost:
                self._pending.add(name)
                await self._local.save(owner, stored)
            except (TypeError, ValueError):
                logger.exception("a response could not be kept")
            else:
                await self._forget(name)

    async def find(self, owner: str, response_id: str) -> Stored | None:
        """Return a response. One whose front end has died has failed."""
        if (owner, response_id) in self._pending:
            return await self._local.find(owner, response_id)
        arguments = (owner, response_id, self._seconds, self._bounds.max_bytes)
        row = await self._runner.run(FIND, self._keys, arguments, seconds=LARGE_S)
        is_large = sum(map(len, row)) > LARGE_BYTES
        stored = await asyncio.to_thread(_parsed, row) if is_large else _parsed(row)
        if stored is not None and stored.runs and self._shared.has_died(stored.front_end):
            return replace(stored, response=with_stop(stored.response), front_end="")
        return stored

    async def find_items(self, owner: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return items of outputs."""
        found = await self._local.find_items(owner, ids) if self._pending else {}
        missing = [one for one in ids if one not in found]
        names = await self._runner.run(HOLDERS, self._keys, (owner, *missing)) if missing else []
        for response_id in {name.decode(errors="replace") for name in names}:
            stored = await self.find(owner, response_id)
            found.update({item["id"]: item for item in stored.response["output"]} if stored else {})
        return found

    async def delete(self, owner: str, response_id: str) -> bool:
        """Delete a response."""
        async with self._saving:
            num_deleted = await self._runner.run(DELETE, self._keys, (owner, response_id))
            return await self._forget((owner, response_id)) or num_deleted > 0

    async def _save(self, owner: str, stored: Stored) -> None:
        if self._shared.is_up is False:  # each attempt may take as long as a call of the store may
            raise SharedStateLost("The shared state is lost.")
        await self._runner.run(SAVE, self._keys, await asyncio.to_thread(self._row, owner, stored))

    def _row(self, owner: str, stored: Stored) -> Sequence[Value]:
        response = stored.response
        return (
            owner, response["id"], int(response["created_at"]), self._shared.front_end if stored.runs else "", orjson.dumps(response),
            orjson.dumps(stored.items), stored.events, self._bounds.max_responses, self._bounds.max_bytes, self._seconds,
            *(item["id"] for item in response["output"]),
        )  # fmt: skip

    async def _forget(self, name: tuple[str, str]) -> bool:
        if name not in self._pending:
            return False
        self._pending.discard(name)
        return await self._local.delete(*name)

    async def _give_back(self) -> None:
        while True:
            await asyncio.sleep(RETURN_S)
            try:
                for name in list(self._pending) if self._shared.is_up else ():
                    await self._give_back_one(name)
            except SharedStateLost:
                continue
            except Exception:
                logger.exception("a response could not be given to the shared state")

    async def _give_back_one(self, name: tuple[str, str]) -> None:
        async with self._saving:
            stored = await self._local.find(*name) if name in self._pending else None
            if stored is not None:
                await self._save(name[0], stored)
            await self._forget(name)


def _parsed(row: Sequence[bytes]) -> Stored | None:
    """Return what a row holds, None where there is none, or one that is not well-formed."""
    if not row:
        return None
    front_end, response, items, events = row
    try:
        found = Stored(orjson.loads(response), orjson.loads(items), events, front_end.decode())
        _Response.model_validate(found.response)
        if not all(isinstance(item, dict) for item in found.items):
            raise TypeError  # noqa: TRY301 - as of any other row that is not well-formed
    except (ValueError, TypeError, ValidationError):
        logger.warning("a response in the shared state is left out: it is not well-formed")
        return None
    return found
