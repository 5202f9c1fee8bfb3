"""Keeps responses with their conversations, within bounds, each for the API key that asked for it.

It is a SQLite database: a file where the operator names one, else in memory. One thread makes all calls, so the event loop never
waits for the disk.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import orjson

from app.api.responses.store import Bounds, Stored, with_stop

logger = logging.getLogger("ponder.api")

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    owner TEXT NOT NULL, id TEXT NOT NULL, created REAL NOT NULL, size INTEGER NOT NULL, is_running INTEGER NOT NULL,
    response BLOB NOT NULL, items BLOB NOT NULL, events BLOB NOT NULL, PRIMARY KEY (owner, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_age ON responses (created);
CREATE TABLE IF NOT EXISTS item_ids (
    owner TEXT NOT NULL, id TEXT NOT NULL, response TEXT NOT NULL, PRIMARY KEY (owner, id)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS forget AFTER DELETE ON responses BEGIN
    DELETE FROM item_ids WHERE owner = old.owner AND response = old.id;
END;
CREATE INDEX IF NOT EXISTS by_response ON item_ids (owner, response);
"""
_SECONDS_PER_DAY = 86_400


class SqliteStore:
    """The `ResponseStore` of one server.

    Where a bound is reached, the oldest response goes first of the key that has the most of what is full: responses or bytes. So a key
    cannot push out the responses of another. A file that cannot be used is not an error: the responses are kept in memory.

    Args:
        path: of the database, None for memory.
        bounds: how much is kept.

    """

    def __init__(self, path: Path | None, bounds: Bounds) -> None:
        self._bounds = bounds
        self._thread = ThreadPoolExecutor(1, "responses")
        self._database = self._thread.submit(_open, path).result()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep responses within this block."""
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the database."""
        await self._do(self._database.close)
        self._thread.shutdown()

    async def save(self, owner: str, stored: Stored) -> None:
        """Keep a response, in place of the one with the same id.

        A failure, on a full disk for example, is logged and not raised: the answer is there, and must go out.
        """
        try:
            await self._do(lambda: self._save(owner, stored))
        except (sqlite3.Error, TypeError, OverflowError):
            logger.exception("a response could not be kept")

    async def find(self, owner: str, response_id: str) -> Stored | None:
        """Return the response with this id of this owner, None without one."""
        return await self._do(lambda: self._find(owner, response_id))

    async def find_items(self, owner: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the items with these ids in the output of this owner's responses; those that are not there are absent."""
        return await self._do(lambda: self._find_items(owner, ids))

    async def names(self) -> list[tuple[str, str]]:
        """Return owner and id of all that are kept."""
        return await self._do(lambda: self._database.execute("SELECT owner, id FROM responses").fetchall())

    async def delete(self, owner: str, response_id: str) -> bool:
        """Delete a response, and return whether there was one."""

        def delete() -> bool:
            with self._database:
                found = self._database.execute("DELETE FROM responses WHERE owner = ? AND id = ?", (owner, response_id))
            return found.rowcount > 0

        return await self._do(delete)

    async def _do(self, call: Callable[[], T]) -> T:
        # The call is completed even where the caller is cancelled meanwhile.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, call))

    def _save(self, owner: str, stored: Stored) -> None:
        response, items = orjson.dumps(stored.response), orjson.dumps(stored.items)
        size = len(response) + len(items) + len(stored.events)
        is_running = stored.response["status"] in ("queued", "in_progress")
        created = stored.response["created_at"]
        row = (owner, stored.response["id"], created, size, is_running, response, items, stored.events)
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            ids = [(owner, item["id"], stored.response["id"]) for item in stored.response["output"]]
            self._database.executemany("INSERT OR REPLACE INTO item_ids VALUES (?, ?, ?)", ids)
            self._make_room()

    def _make_room(self) -> None:
        run = self._database.execute
        run("DELETE FROM responses WHERE created < ?", (time.time() - self._bounds.max_days * _SECONDS_PER_DAY,))
        while True:
            number, size = run("SELECT count(*), coalesce(sum(size), 0) FROM responses").fetchone()
            if number > self._bounds.max_responses:
                share = "count(*)"
            elif size > self._bounds.max_bytes:
                share = "sum(size)"
            else:
                return
            by_share = f"SELECT owner FROM responses GROUP BY owner ORDER BY {share} DESC, min(created) LIMIT 1"  # noqa: S608 - a constant
            (largest,) = run(by_share).fetchone()
            oldest = "SELECT id FROM responses WHERE owner = ? ORDER BY created LIMIT 1"
            run(f"DELETE FROM responses WHERE owner = ? AND id = ({oldest})", (largest, largest))  # noqa: S608 - a constant

    def _find(self, owner: str, response_id: str) -> Stored | None:
        query = "SELECT response, items, events FROM responses WHERE owner = ? AND id = ?"
        row = self._database.execute(query, (owner, response_id)).fetchone()
        return None if row is None else Stored(orjson.loads(row[0]), orjson.loads(row[1]), row[2])

    def _find_items(self, owner: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        query = "SELECT response FROM item_ids WHERE owner = ? AND id = ?"
        rows = (self._database.execute(query, (owner, item_id)).fetchone() for item_id in ids)
        found = {}
        for response_id in {row[0] for row in rows if row is not None}:
            stored = self._find(owner, response_id)
            found.update({item["id"]: item for item in stored.response["output"]} if stored else {})
        return found


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            return _prepared(sqlite3.connect(path))
        except (OSError, sqlite3.Error) as error:
            logger.warning("responses are kept in memory alone: %s cannot be used: %s", path, error)
    return _prepared(sqlite3.connect(":memory:"))


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    """Make the table. A response that was running when the server ended has failed."""
    database.executescript(_SCHEMA)
    with database:
        running = database.execute("SELECT owner, id, response FROM responses WHERE is_running").fetchall()
        for owner, response_id, response in running:
            ended = orjson.dumps(with_stop(orjson.loads(response)))
            change = "UPDATE responses SET response = ?, is_running = 0 WHERE owner = ? AND id = ?"
            database.execute(change, (ended, owner, response_id))
    return database
