"""Asynchronous work on many items with a limit on how many are worked on at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def for_each(items: Iterable[T], do: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Call `do` with every item, in their order, at most `at_once` of them at the same time.

    The first error cancels the others and is raised itself, not within an `ExceptionGroup`.
    """
    remaining = iter(items)

    async def work() -> None:
        for item in remaining:
            await do(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
    except ExceptionGroup as failures:
        raise first_of(failures) from None


def first_of(failures: ExceptionGroup) -> Exception:
    """Return the first error of a group of tasks: the cause, from which the others followed."""
    error: Exception = failures
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
