"""What happens when a client leaves: its work is cancelled at once, for whole replies and for streams alike."""

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive

from app.errors import Disconnected

T = TypeVar("T")


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. If the client disconnects first, cancel the work, wait for its end, and raise `Disconnected`."""
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(_until_disconnected(receive))
        worker = group.create_task(_outcome(work))
        await asyncio.wait((watcher, worker), return_when=asyncio.FIRST_COMPLETED)
        watcher.cancel()
        if not worker.done():
            worker.cancel()
    if worker.cancelled():
        message = "The client disconnected."
        raise Disconnected(message)
    outcome = worker.result()
    if isinstance(outcome, _Failure):
        raise outcome.error
    return outcome


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


async def _outcome(work: Awaitable[T]) -> T | _Failure:
    """Return an error as a value: a task group would wrap it in an exception group."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - raised again by `while_connected`
        return _Failure(error)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
