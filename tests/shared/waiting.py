"""Waiting for what another front end does."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest


async def until(holds: Callable[[], bool | Awaitable[bool]], within: float = 5.0) -> float:
    """Wait until it holds, and return the seconds that it took."""
    start = time.monotonic()
    while time.monotonic() - start < within:
        held = holds()
        if held if isinstance(held, bool) else await held:
            return time.monotonic() - start
        await asyncio.sleep(0.01)
    return pytest.fail(f"it did not hold within {within} seconds")
