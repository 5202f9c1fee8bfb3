"""The agreement of front ends on policies, over a shared table. Their texts stand beside it, by their hashes."""

import asyncio
from collections.abc import Callable, Mapping

from app.errors import Conflict
from app.shared.alone import LARGE_S
from app.shared.policy_agreement import MAX_KEPT, AgreedPolicies, PolicyAgreement, ReadText, hash_of
from app.shared.scripts import FETCH, KEEP, MISSING
from app.shared.store import Store
from app.shared.table import SharedTable

MAX_TEXT_BYTES = 64 * 2**20


class SharedPolicies(PolicyAgreement):
    """A `PolicyAgreement` of several front ends."""

    def __init__(self, store: Store) -> None:
        self.table = SharedTable(store, "policies", AgreedPolicies)
        self.table.restore = self._restore
        self._store = store
        self._read: ReadText = lambda _name, _number: None

    def find(self, name: str) -> AgreedPolicies | None:
        """Return the newest that is known of a name."""
        return self.table.find(name)

    def offer(self, found: Callable[[], Mapping[str, AgreedPolicies]], read: ReadText) -> None:
        """Give what this front end has on its disk."""
        self._read = read
        self.table.offer(found())

    async def add(self, name: str, number: int, text: bytes) -> None:
        """Let all front ends agree on a new policy, which is the active one."""
        known = (self.find(name) or AgreedPolicies()).texts
        kept = sorted(known)[-(MAX_KEPT - 1) :]
        agreed = AgreedPolicies(texts={one: known[one] for one in kept} | {number: hash_of(text)}, current=number)
        await self._change(name, agreed, {hash_of(text): text})

    async def choose(self, name: str, number: int | None) -> None:
        """Let all front ends agree on which policy is active."""
        known = (self.find(name) or AgreedPolicies()).texts
        if number and number not in known:
            raise Conflict(f"The policies of `{name}` are being changed at another front end: try again.")
        await self._change(name, AgreedPolicies(texts=known, current=number), {})

    async def _change(self, name: str, agreed: AgreedPolicies, added: Mapping[str, bytes]) -> None:
        """Change what is agreed on. Texts that are no longer referred to are dropped with the change."""
        await self.table.change(name, agreed, (self._texts(name), list(agreed.texts.values()), added))

    async def fetch(self, name: str, digest: str) -> bytes | None:
        """Return a text. One that is not what its hash says is missing."""
        text: bytes = await self._store.run(FETCH, (self._texts(name),), (digest, MAX_TEXT_BYTES), seconds=LARGE_S)
        return text if hash_of(text) == digest else None

    async def _restore(self) -> None:
        """Write back the texts that the store has lost."""
        for name, agreed in self.table.documents().items():
            numbers = {digest: number for number, digest in agreed.texts.items()}
            if not numbers:
                continue
            for digest in await self._store.run(MISSING, (self._texts(name),), list(numbers)):
                text = await asyncio.to_thread(self._read, name, numbers[digest.decode()])
                if text is not None and hash_of(text) == digest.decode():
                    await self._store.run(KEEP, (self._texts(name),), (digest, text))

    def _texts(self, name: str) -> str:
        return self._store.key("policy-texts", name)
