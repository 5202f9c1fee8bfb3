"""Keeps what was learned in a file, so that a restarted server knows it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from app.routing.learning.file import snapshot, write_learned
from app.routing.learning.learner import Learner

logger = logging.getLogger("ponder.learning")

WRITE_S = 10.0
"""The seconds between two writes, where there is something new."""


@asynccontextmanager
async def kept(learner: Learner, path: Path, seconds: float = WRITE_S) -> AsyncIterator[None]:
    """Write what was learned every so many seconds, and at the end of the block. What cannot be written is told once."""
    written, is_told, ending = learner.version, False, asyncio.Event()

    async def write() -> None:
        nonlocal written, is_told
        if learner.version == written:
            return
        version, learned = learner.version, snapshot(learner)
        try:
            await asyncio.to_thread(write_learned, path, learned)
        except (OSError, ValueError) as error:
            if not is_told:
                logger.warning("what was learned cannot be kept: %s", error)
            is_told = True
        else:
            written = version

    async def write_often() -> None:
        while not ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), seconds)
            await write()

    writer = asyncio.create_task(write_often())
    try:
        yield
    finally:
        ending.set()  # not cancelled: an older write must not end after a newer one
        await writer
        await write()
