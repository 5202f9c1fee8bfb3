"""Decodes the images of one request in a process of its own, whose time and memory the kernel limits."""

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence

from PIL import Image

from app.images import decoding
from app.images.decoding import HEAD, UnreadableImage

TOO_COSTLY = "the image takes too much time or memory to decode"

Decoded = Image.Image | UnreadableImage
"""An image, or why there is none."""


async def decode_apart(files: Sequence[bytes], max_pixels: int) -> list[Decoded]:
    """Return the image of each file, up to the first that cannot be read. `max_pixels` bounds all of them together."""
    process = _start()
    exchange = asyncio.create_task(asyncio.to_thread(_exchange, process, files, max_pixels))
    try:
        return await asyncio.shield(exchange)
    finally:
        process.kill()  # where the request has been cancelled; and then its thread ends too
        await asyncio.wait([exchange])


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - a program of this server
        [sys.executable, "-I", decoding.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _exchange(process: subprocess.Popen[bytes], files: Sequence[bytes], max_pixels: int) -> list[Decoded]:
    written, _ = process.communicate(pickle.dumps((list(files), max_pixels)))
    found = list(_read(written))
    if len(found) == len(files) or (found and isinstance(found[-1], UnreadableImage)):
        return found
    if process.returncode > 0:
        message = f"the program that decodes images ended with status {process.returncode}"
        raise RuntimeError(message)
    return [*found, UnreadableImage(TOO_COSTLY)]


def _read(written: bytes) -> Iterator[Decoded]:
    """Yield what the program has written whole."""
    place = 0
    while place + HEAD.size <= len(written):
        width, height = HEAD.unpack_from(written, place)
        place += HEAD.size
        length = width * height * 3 if width else height
        content = memoryview(written)[place : place + length]
        if len(content) < length:
            return
        place += length
        yield Image.frombytes("RGB", (width, height), content) if width else UnreadableImage(str(content, "utf-8"))
