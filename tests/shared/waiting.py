"""Waiting for what another front end does."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

Holds = Callable[[], bool | Awaitable[bool]]


async def until(holds: Holds, within: float = 30.0) -> float:
    """Wait until it holds, and return the seconds that it took."""
    start = time.monotonic()
    while time.monotonic() - start < within:
        if await _now(holds):
            return time.monotonic() - start
        await asyncio.sleep(0.01)
    return pytest.fail(f"it did not hold within {within} seconds")


async def follows(served, holds: Holds) -> None:
    """Wait until it holds at a front end, which it must within a few beats: tables are compared whole only after a hundred."""
    for _ in range(30):
        if await _now(holds):
            return
        await served.app.state.pools.first.shared.front_ends.next_beat()
    pytest.fail("it did not hold within thirty beats")


async def _now(holds: Holds) -> bool:
    held = holds()
    return held if isinstance(held, bool) else await held
