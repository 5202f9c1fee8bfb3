"""A front end's end of the messages: a `Replica` that is asked by calls which take and return bytes."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from adapters.ports import EngineAdapter
from app.engine.ray.messages import CODECS, Item, call
from app.engine.ray.server import PULL_S
from app.engine.replica import ReplicaCard, ReplicaFailed, ReplicaLoad, TokenPart, TokenRequest

Call = Callable[[str, bytes], Awaitable[bytes]]
"""Asks a replica: the name of a method and its arguments; returns the answer. Raises `ReplicaFailed` where the replica is gone."""

ANSWER_S = 10.0
"""Seconds that a replica may take for an answer that needs no generation."""

LOAD_S = 120.0
"""Seconds that loading an adapter may take: the replica may read it from slow storage."""


async def _ask(to: Call, method: str, *arguments: Any, seconds: float | None = None) -> Any:
    """Return the answer of a replica. Raises the error in it, and `ReplicaFailed` where it takes longer than `seconds`."""
    seconds = ANSWER_S if seconds is None else seconds
    try:
        async with asyncio.timeout(seconds):
            data = await to(method, call(*arguments))
    except TimeoutError:
        raise ReplicaFailed(f"it did not answer {method} within {seconds:g} s") from None
    return CODECS[method].read_answer(data)


class _Inbox(asyncio.Queue[TokenPart | Exception]):
    """Parts of one branch that have arrived and have not been read."""


class _Session:
    """The branches of this front end on a replica. It begins with the first one, and ends when the replica fails or is left.

    Branches that begin while a call is on its way go together in the next one.

    """

    def __init__(self, to: Call) -> None:
        self._call = to
        self._id = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._inboxes: dict[str, _Inbox] = {}
        self._to_submit: list[TokenRequest] = []
        self._to_drop: list[str] = []
        self._has_work = asyncio.Event()
        self._has_branches = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def is_over(self) -> bool:
        """Whether no branch can begin here any more."""
        return self._task.done()

    def begin(self, request: TokenRequest) -> tuple[str, _Inbox]:
        """Begin a branch. Return its id at the replica, where one branch may come twice, and its inbox."""
        own = f"{self._id}-{next(self._numbers)}"
        self._inboxes[own] = _Inbox()
        self._to_submit.append(replace(request, id=own))
        self._has_work.set()
        return own, self._inboxes[own]

    def end(self, own: str, *, is_over: bool) -> None:
        """Forget a branch. One that is not over ends at the replica too."""
        del self._inboxes[own]
        if not is_over:
            self._to_drop.append(own)
            self._has_work.set()

    async def halt(self, ids: list[str]) -> None:
        """End branches, each with a last part."""
        await _ask(self._call, "halt", self._id, ids)

    async def close(self) -> None:
        """End all branches here. The replica notices by itself."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        failure = ReplicaFailed("it has left")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send())
                group.create_task(self._receive())
        except* ReplicaFailed as errors:
            [failure, *_] = [one for one in errors.exceptions if isinstance(one, ReplicaFailed)]
        finally:
            for inbox in self._inboxes.values():
                inbox.put_nowait(failure)

    async def _send(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            requests, self._to_submit = self._to_submit, []
            gone, self._to_drop = self._to_drop, []
            if requests:
                await _ask(self._call, "submit", self._id, requests)
                self._has_branches.set()
            if gone:
                await _ask(self._call, "drop", self._id, gone)

    async def _receive(self) -> None:
        while True:
            await self._has_branches.wait()
            if not self._inboxes:
                self._has_branches.clear()
                continue
            items: list[Item] = await _ask(self._call, "pull", self._id, seconds=PULL_S + ANSWER_S)
            for one in items:
                if (inbox := self._inboxes.get(one.id)) is not None:
                    inbox.put_nowait(_content(one))


def _content(item: Item) -> TokenPart | Exception:
    if item.failure is not None:
        return item.failure.error()
    return item.part or TokenPart()


class RayReplica:
    """A `Replica` on Ray.

    Args:
        name: of the replica, the same for all front ends.
        to: asks it.

    """

    def __init__(self, name: str, to: Call) -> None:
        self.name = name
        self._call = to
        self._session: _Session | None = None
        self._own_ids: dict[str, str] = {}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenPart]:
        """Run one branch; see `Replica`."""
        if self._session is None or self._session.is_over:
            self._session = _Session(self._call)
        session = self._session
        own, inbox = session.begin(request)
        self._own_ids[request.id] = own
        is_over = False
        try:
            while not is_over:
                part = await inbox.get()
                is_over = isinstance(part, Exception) or part.finish_reason is not None
                if isinstance(part, Exception):
                    raise part
                yield part
        finally:
            if self._own_ids.get(request.id) == own:
                del self._own_ids[request.id]
            session.end(own, is_over=is_over)

    async def halt(self, ids: list[str]) -> None:
        """End these branches; see `Replica`."""
        known = [self._own_ids[one] for one in ids if one in self._own_ids]
        if known and self._session is not None:
            await self._session.halt(known)

    async def describe(self) -> ReplicaCard:
        """Return what it serves; see `Replica`."""
        card: ReplicaCard = await _ask(self._call, "describe")
        return card

    async def load(self) -> ReplicaLoad:
        """Return what it counts of itself; see `Replica`."""
        load: ReplicaLoad = await _ask(self._call, "load")
        return load

    async def metrics(self) -> bytes:
        """Return its page of metrics; see `Replica`."""
        page: bytes = await _ask(self._call, "metrics")
        return page

    async def tokenize(self, text: str) -> tuple[int, ...] | None:
        """Return the token ids of a text; see `Replica`."""
        tokens: tuple[int, ...] | None = await _ask(self._call, "tokenize", text)
        return tokens

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load an adapter; see `Replica`."""
        await _ask(self._call, "load_adapter", adapter, seconds=LOAD_S)

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Remove an adapter; see `Replica`."""
        await _ask(self._call, "unload_adapter", adapter)

    async def close(self) -> None:
        """Leave it, which ends what it generates for this server."""
        if self._session is not None:
            await self._session.close()
