"""Documents by name that all front ends agree on. A change counts only if nobody has changed the same name meanwhile.

Each document has a revision, which is higher than that of any older change in the table. A front end reads what is newer than what
it has seen, and writes back what it knows where the store knows less: after a loss of the store, the front ends restore it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import Conflict, InvalidRequest, SharedStateLost
from app.shared.alone import Value
from app.shared.scripts import CHANGE, OFFER, READ
from app.shared.store import Store

logger = logging.getLogger("ponder.shared")

ERROR_S = 1.0
"""Seconds until the next attempt after an error that nobody has foreseen."""

MAX_NAMES = 10_000
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_NAME_BYTES = 256
MAX_REVISION = 2**53
FOUND = 1
"""The revision of what a front end has found on its disk: whatever was agreed on is newer."""

D = TypeVar("D", bound=BaseModel)

Texts = tuple[str, Sequence[str], Mapping[str, bytes]]
"""What a document refers to: the key of the texts, the hashes that it refers to, and those of the texts that are new."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[D]):
    revision: int
    document: D


class SharedTable(Generic[D]):
    """One table.

    Args:
        store: where it is.
        name: of the table.
        model: of its documents; all that is read is validated.

    Attributes:
        follow: called with a name whose document may be newer than at the last call; `find` has it then. An error of it is logged.
        restore: called when the store may have lost something, before this front end writes back documents.
        seen: the revision up to which `follow` has been called.
        has_caught_up: set when `follow` was called for the first time for all that the store has.

    """

    def __init__(self, store: Store, name: str, model: type[D]) -> None:
        self.name = name
        self.seen = 0
        self.key = store.key(name, "revisions")
        self._store = store
        self._model = model
        self.follow: Callable[[str], Awaitable[None]] = _ignore
        self.restore: Callable[[], Awaitable[None]] = _restore_no_more
        self._keys = (self.key, store.key(name, "documents"))
        self._entries: dict[str, _Entry[D]] = {}
        self._highest = 0
        self._is_doubtful = True
        self._woken = asyncio.Event()
        self.has_caught_up = asyncio.Event()

    def find(self, name: str) -> D | None:
        """Return the newest document that is known of a name."""
        entry = self._entries.get(name)
        return None if entry is None else entry.document

    def documents(self) -> dict[str, D]:
        """Return the newest documents that are known, by their names."""
        return {name: entry.document for name, entry in self._entries.items()}

    def revision(self, name: str) -> int:
        """Return the revision of that document, 0 without one."""
        entry = self._entries.get(name)
        return 0 if entry is None else entry.revision

    def offer(self, found: Mapping[str, D]) -> None:
        """Give documents that are on this front end's disk."""
        for name, document in found.items():
            self._entries.setdefault(name, _Entry(FOUND, document))

    async def change(self, name: str, document: D, texts: Texts | None = None) -> None:
        """Agree on a document in place of the one that `find` returns, and return when the store has it, with its texts.

        Raises:
            Conflict: another front end has changed the name meanwhile; `find` will know it soon.
            SharedStateLost: the store cannot be reached. The change may have been made all the same: then `follow` is called with it.

        """
        text = document.model_dump_json()
        if len(text) > MAX_DOCUMENT_BYTES or len(name.encode()) > MAX_NAME_BYTES:
            raise InvalidRequest(f"`{name[:64]}` has more than several front ends can share.", parameter="name")
        keys: list[str] = list(self._keys)
        arguments: list[Value] = [name, self.revision(name), text, MAX_NAMES]
        if texts is not None:
            key, kept, added = texts
            keys.append(key)
            arguments += [len(kept), *kept, *(value for pair in added.items() for value in pair)]
        revision = int(await self._store.run(CHANGE, keys, arguments, is_repeatable=False))
        if revision == 0:
            self._woken.set()
            raise Conflict(f"`{name[:64]}` is being changed at another front end: try again.")
        if revision < 0:
            raise InvalidRequest(f"More than {MAX_NAMES} names cannot be shared.", parameter="name")
        self._entries[name] = _Entry(revision, document)
        self._highest = max(self._highest, revision)

    def notice(self, newest: int, *, is_doubtful: bool) -> None:
        """Note the newest revision in the store. Where the store may have lost something, everything is compared."""
        self._is_doubtful = self._is_doubtful or is_doubtful or newest < self._highest
        if newest != self.seen or self._is_doubtful:
            self._woken.set()

    async def run(self) -> None:
        """Call `follow` for each change, until it is cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._catch_up()
            except SharedStateLost as lost:
                logger.debug("the table %s could not be read: %s", self.name, lost.why)  # the next beat wakes it again
            except Exception:
                logger.exception("the table %s could not be followed", self.name)  # which must not end the server
                await asyncio.sleep(ERROR_S)

    async def _catch_up(self) -> None:
        is_doubtful, self._is_doubtful = self._is_doubtful, False
        try:
            if is_doubtful:
                await self._restore()
            since = 0 if is_doubtful else self.seen
            rows = await self._store.run(READ, self._keys, (since, MAX_NAMES, MAX_DOCUMENT_BYTES))
        except SharedStateLost:
            self._is_doubtful = self._is_doubtful or is_doubtful
            raise
        names = [name for row in rows if (name := self._take(row)) is not None]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._follow_all_but_errors(name))
        self.seen = max([revision_of(row[1]) for row in rows], default=self.seen)
        self._highest = max([self.seen, *(entry.revision for entry in self._entries.values())])
        self.has_caught_up.set()

    async def _restore(self) -> None:
        await self.restore()
        rows = [
            value for name, entry in self._entries.items() for value in (name, entry.revision, entry.document.model_dump_json())
        ]
        if rows:
            await self._store.run(OFFER, self._keys, rows)

    def _take(self, row: list[bytes]) -> str | None:
        """Take over a row of the store; return its name if it is news. A row that is not well-formed is logged and left out."""
        try:
            name, revision = row[0].decode(), revision_of(row[1])
            entry = _Entry(revision, self._model.model_validate_json(row[2]))
        except (ValueError, ValidationError) as error:
            logger.warning("a row of the shared table %s is left out: %s", self.name, str(error)[:200])
            return None
        known = self._entries.get(name)
        # What this front end has changed itself is followed too, in case that it failed after everybody agreed.
        if known is not None and known.revision > revision:
            return None
        self._entries[name] = entry
        return name

    async def _follow_all_but_errors(self, name: str) -> None:
        try:
            await self.follow(name)
        except SharedStateLost as lost:
            logger.debug("%s: %s is followed when the store is back: %s", self.name, name, lost.why)
            self._is_doubtful = True
        except Exception:
            logger.exception("%s: %s could not be followed", self.name, name)


def revision_of(text: bytes) -> int:
    """Return a revision as the store writes it, 0 for what is none."""
    try:
        number = float(text)
    except ValueError:
        return 0
    return int(number) if 0 <= number <= MAX_REVISION else 0


async def _restore_no_more() -> None:
    """Restore nothing besides the documents."""


async def _ignore(_name: str) -> None:
    """Follow nothing: this front end serves nothing of the table."""
