"""Work on many things, so many at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def each(things: Iterable[T], do: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """`do` with every thing, begun in their order; the first error ends the others, and is raised itself."""
    waiting = iter(things)

    async def work() -> None:
        for thing in waiting:
            await do(thing)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
    except ExceptionGroup as failures:
        error: Exception = failures
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]  # the first is the cause, the others were cancelled or the same
        raise error from None
