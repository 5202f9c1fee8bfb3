"""Images for tests: files, data URLs, and files that are meant to be refused."""

import base64
import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image

RED, BLUE = (200, 30, 30), (30, 30, 200)


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), colour: Any = RED, mode: str = "RGB", **options: Any) -> bytes:
    """Return an image file of one colour."""
    file = BytesIO()
    Image.new(mode, size, colour).save(file, kind, **options)
    return file.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """Return a file as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def huge_png(width: int, height: int) -> bytes:
    """Return a small PNG file that says it has so many pixels: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def image_part(url: str) -> dict[str, Any]:
    """Return an image as a part of a message of chat completions."""
    return {"type": "image_url", "image_url": {"url": url}}
