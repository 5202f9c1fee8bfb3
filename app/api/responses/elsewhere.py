"""Background responses that another front end runs: they are read from the store, and cancelled by a message to the one that runs them."""

import asyncio
import time
from collections.abc import AsyncIterator

from app.api.responses.background import CancelMessage
from app.api.responses.store import ResponseStore, Stored
from app.api.sse import KEEP_ALIVE
from app.request import Caller
from app.shared.alone import NotShared

LOOK_S = 0.1
"""Seconds between two looks at whether a response has ended."""

ASK_S = 1.0
"""Seconds after which a front end is asked again to cancel a response."""

CANCEL_S = 10.0
"""Seconds that a cancelled response may take to end before its caller is told its state all the same."""


async def cancel(shared: NotShared, store: ResponseStore, who: Caller, stored: Stored) -> None:
    """Have a response cancelled by the front end that runs it, and wait for its end. Raises `SharedStateLost`."""
    response_id, found = stored.response["id"], stored
    message = CancelMessage(cancel=response_id, owner=who.owner).model_dump_json().encode()
    start, asked = time.monotonic(), -ASK_S
    while found is not None and found.runs and time.monotonic() - start < CANCEL_S:
        if time.monotonic() - asked >= ASK_S:
            await shared.post(found.front_end, message)
            asked = time.monotonic()
        await asyncio.sleep(LOOK_S)
        found_now = await store.find(who.owner, response_id)
        if found_now is None:
            return
        found = found_now


async def events_at_end(store: ResponseStore, who: Caller, response_id: str, keep_alive: float) -> AsyncIterator[bytes]:
    """Yield signs of life until a response has ended, then all its events together."""
    shown = time.monotonic()
    while (found := await store.find(who.owner, response_id)) is not None:
        if not found.runs:
            yield found.events
            return
        if time.monotonic() - shown >= keep_alive:
            shown = time.monotonic()
            yield KEEP_ALIVE
        await asyncio.sleep(LOOK_S)
