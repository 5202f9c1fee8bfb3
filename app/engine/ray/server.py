"""A replica's end of the messages: it runs the branches of several front ends, and hands each front end what its branches generate.

A front end asks for new tokens (`pull`), and gets one answer for each step of the engine, with the tokens of all its branches. Tokens that
come while an answer is on its way wait for the next question, so a slow front end gets larger answers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.engine.ray.messages import CODECS, Failure, Item, answer
from app.engine.replica import Replica, ReplicaFailed, TokenRequest

logger = logging.getLogger("ponder.replicas")

PULL_S = 2.0
"""Seconds after which a question is answered, also without a token."""

SILENCE_S = 10.0
"""Seconds without a question after which a front end is gone, and its branches end."""


@dataclass(slots=True, eq=False)
class _Session:
    """The branches of one front end.

    Attributes:
        items: that it has not been given yet.
        has_items: set while there are some.
        branches: that run, by their ids.
        expiry: ends the session, unless a question comes before.

    """

    items: list[Item] = field(default_factory=list)
    has_items: asyncio.Event = field(default_factory=asyncio.Event)
    branches: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    expiry: asyncio.TimerHandle | None = None

    def put(self, item: Item) -> None:
        self.items.append(item)
        self.has_items.set()

    def take(self) -> list[Item]:
        items, self.items = self.items, []
        self.has_items.clear()
        return items

    def drop(self, ids: Iterable[str]) -> None:
        for one in ids:
            if (task := self.branches.pop(one, None)) is not None:
                task.cancel()

    def expect_question(self, end: asyncio.TimerHandle | None) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        self.expiry = end


class ReplicaServer:
    """Answers messages for a replica in this process.

    Args:
        replica: that is asked. Whoever made it closes it.

    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._sessions: dict[str, _Session] = {}
        self._of_sessions: dict[str, Callable[..., Awaitable[Any]]] = {
            "submit": self._submit,
            "pull": self._pull,
            "halt": self._halt,
            "drop": self._drop,
        }

    async def answer(self, method: str, data: bytes) -> bytes:
        """Return the answer to a call. It holds the error, where there is one."""
        try:
            arguments = CODECS[method].read_call(data)
        except (msgspec.DecodeError, KeyError) as error:
            return answer(failure=Failure("lost", f"a call that cannot be read: {error}"[:200]))
        try:
            handler = self._of_sessions.get(method) or getattr(self._replica, method)
            return answer(await handler(*arguments))
        except Exception as error:  # noqa: BLE001 - whatever it is, the front end is told
            return answer(failure=self._failure(error))

    def _failure(self, error: Exception) -> Failure:
        failure = Failure.of(error)
        if failure.kind == "lost":
            logger.warning("the engine failed at a call: %s", failure.text, exc_info=error)
        return failure

    async def close(self) -> None:
        """End all branches."""
        tasks = [task for one in self._sessions.values() for task in one.branches.values()]
        for id_ in list(self._sessions):
            self._end(id_)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _submit(self, session_id: str, requests: list[TokenRequest]) -> None:
        """Begin branches. The ids of a session's branches are of no other session."""
        session = self._sessions.setdefault(session_id, _Session())
        for request in requests:
            session.branches[request.id] = asyncio.create_task(self._run(session, request))
        self._wait_for_question(session_id, session)

    async def _run(self, session: _Session, request: TokenRequest) -> None:
        try:
            async with aclosing(self._replica.generate(request)) as parts:  # type: ignore[type-var]
                async for part in parts:
                    session.put(Item(request.id, part))
        except Exception as error:  # noqa: BLE001 - the front end is told
            session.put(Item(request.id, None, self._failure(error)))
        finally:
            session.branches.pop(request.id, None)

    async def _pull(self, session_id: str) -> list[Item]:
        """Return what has come of a session's branches since it asked last, at once where there is something."""
        session = self._session(session_id)
        session.expect_question(None)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PULL_S):
                    await session.has_items.wait()
            return session.take()
        finally:
            self._wait_for_question(session_id, session)

    async def _halt(self, session_id: str, ids: list[str]) -> None:
        """End branches in the engine, which gives each of them a last part."""
        running = [one for one in ids if one in self._session(session_id).branches]
        if running:
            await self._replica.halt(running)

    async def _drop(self, session_id: str, ids: list[str]) -> None:
        """End branches that nobody reads any more."""
        self._session(session_id).drop(ids)

    def _session(self, session_id: str) -> _Session:
        if (session := self._sessions.get(session_id)) is None:
            raise ReplicaFailed("it has ended the branches of a front end that asked for nothing")
        return session

    def _wait_for_question(self, session_id: str, session: _Session) -> None:
        session.expect_question(asyncio.get_running_loop().call_later(SILENCE_S, self._end, session_id))

    def _end(self, session_id: str) -> None:
        if (session := self._sessions.pop(session_id, None)) is not None:
            session.expect_question(None)
            session.drop(list(session.branches))
