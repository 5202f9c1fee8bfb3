"""The agreement of front ends on adapters, over a shared table."""

import asyncio
from collections.abc import Mapping

from adapters.agreement import AgreedVersions, Change
from adapters.errors import AdapterConflict, AdapterRefused, NoAgreement
from app.errors import Conflict, InvalidRequest, SharedStateLost
from app.shared.front_ends import FrontEnds
from app.shared.table import SharedTable

FOLLOW_S = 10.0
"""Seconds that a deletion waits for the other front ends. One that has died is waited for no longer than it counts as alive."""


class SharedAdapters:
    """An `adapters.agreement.Agreement`."""

    is_shared = True

    def __init__(self, table: SharedTable[AgreedVersions], front_ends: FrontEnds) -> None:
        self._table = table
        self._front_ends = front_ends

    def find(self, name: str) -> AgreedVersions | None:
        """Return the newest that is known of a name."""
        return self._table.find(name)

    def offer(self, found: Mapping[str, AgreedVersions]) -> None:
        """Give what this front end has found on its disk."""
        self._table.offer(found)

    async def propose(self, name: str, change: Change) -> None:
        """Let all front ends agree on a change."""
        known = self._table.find(name)
        changed = change(known or AgreedVersions())
        if changed is known:
            return
        try:
            await self._table.change(name, changed)
        except Conflict as conflict:
            raise AdapterConflict(str(conflict), parameter="name") from conflict
        except InvalidRequest as refusal:
            raise AdapterRefused(str(refusal), parameter="name") from refusal
        except SharedStateLost as lost:
            raise NoAgreement(f"{lost} Adapters can be changed again when it is back.") from lost

    async def is_followed(self, name: str) -> bool:
        """Wait until all living front ends follow the newest that is known of a name."""
        table, revision = self._table, self._table.revision(name)
        try:
            async with asyncio.timeout(FOLLOW_S):
                while True:
                    await self._front_ends.next_beat()
                    others = self._front_ends.others().values()
                    if self._front_ends.is_up and all(other.seen.get(table.name, 0) >= revision for other in others):
                        return True
        except TimeoutError:
            return False
