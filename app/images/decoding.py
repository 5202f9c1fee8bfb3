"""Decodes data URLs and image files.

Only formats are read that other servers of this kind read too. Pillow has decoders of dozens of old formats, each of which is one more
way to attack a server.

A file of a megabyte can keep Pillow busy for an hour, with thousands of scans of a JPEG, and no thread can be ended. So
`app.images.processes` runs this file as a program, whose time and memory the kernel limits. It imports nothing of this server.
"""

import base64
import binascii
import math
import pickle
import resource
import struct
import sys
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO

from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")

MIN_SIDE = 4
"""The shortest side of an image in pixels. An array with a side of 1 or 3 may be taken for one whose colours come first."""

MAX_RATIO = 200
"""The most that one side may be longer than the other. Models that keep the ratio refuse longer images."""

_WHITE = (255, 255, 255)

HEAD = struct.Struct("<QQ")
"""Stands before each image that the program writes: its width and height; or 0 and the length of a message, which says why not."""

START_SECONDS = 3
"""Seconds of processor time for the program itself, and for the heads of all files."""

SECONDS_PER_MEGAPIXEL = 0.2
"""Further seconds for an image. An ordinary one takes a tenth."""

START_BYTES = 512 * 1024**2
BYTES_PER_PIXEL = 24
"""The memory of the program: for itself and the files, and for the most pixels that a request may have, in several copies."""


class UnreadableImage(ValueError):
    """The bytes are no image that is read here. The message continues the name of a field."""


def is_data_url(url: str) -> bool:
    """Return whether a URL holds its data itself."""
    return url[:5].lower() == "data:"


def data_of(url: str, max_bytes: int) -> bytes:
    """Return the bytes of a data URL. Raises `UnreadableImage`."""
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise UnreadableImage("the data URL must have the form data:image/png;base64,…")
    if len(data) // 4 * 3 > max_bytes + 2:
        raise UnreadableImage(too_many_bytes(max_bytes))
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableImage(f"the data URL is not valid base64: {error}") from error


def encoded_bytes(num_bytes: int) -> int:
    """Return how many bytes of base64 so many bytes become."""
    return -(-num_bytes // 3) * 4


def too_many_bytes(max_bytes: int) -> str:
    """Return what is said of images that are too large."""
    return f"the images of a request may have at most {max_bytes} bytes together (`max_image_bytes`)"


def decode(data: bytes, pixels_left: int, max_pixels: int) -> Image.Image:
    """Return the first frame of an image file as RGB, upright, on white where it is transparent.

    Its size is read from the file's head, and refused there: the pixels of a small file may fill the memory.

    Args:
        data: the file.
        pixels_left: the most pixels that the image may have.
        max_pixels: the same for all images of the request, for the message.

    Raises:
        UnreadableImage: it is no image, is damaged, or has a size that is refused.

    """
    return _pixels(_opened(data, pixels_left, max_pixels))


def _opened(data: bytes, pixels_left: int, max_pixels: int) -> Image.Image:
    """Return an image whose head alone is read."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(too_many_pixels(max_pixels)) from error
    except Exception as error:  # Pillow's parsers raise errors of many kinds
        raise UnreadableImage(f"it is no image in one of the formats {', '.join(FORMATS)}") from error
    _check_size(image, pixels_left, max_pixels)
    return image


def _pixels(image: Image.Image) -> Image.Image:
    try:
        return _on_white(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:  # its decoders as well
        raise UnreadableImage("the image is damaged or incomplete") from error


def too_many_pixels(max_pixels: int) -> str:
    """Return what is said of images with too many pixels."""
    return f"the images of a request may have at most {max_pixels} pixels together (`max_image_pixels`)"


def _check_size(image: Image.Image, pixels_left: int, max_pixels: int) -> None:
    width, height = image.size
    short, long = sorted(image.size)
    if width * height > pixels_left:
        raise UnreadableImage(f"the image is {width} x {height} pixels, and {too_many_pixels(max_pixels)}")
    if short < MIN_SIDE:
        raise UnreadableImage(f"the image is {width} x {height} pixels: each side needs at least {MIN_SIDE}")
    if long > MAX_RATIO * short:
        raise UnreadableImage(f"the image is {width} x {height} pixels: a side may be at most {MAX_RATIO} times the other")


def _on_white(image: Image.Image) -> Image.Image:
    """Return the pixels alone, as RGB. What else the file holds is left out: vLLM takes an id in it for the image's identity."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        plain = Image.new("RGB", image.size, _WHITE)
        plain.paste(image, mask=image.getchannel("A"))
        return plain
    plain = image.convert("RGB")
    plain.info.clear()
    plain._exif = None  # Pillow keeps what it has parsed
    return plain


def _main(source: BinaryIO, target: BinaryIO) -> None:
    """Decode the files that are pickled in `source`, with the most pixels of all, into `target`, up to the first that cannot be read."""
    files, max_pixels = pickle.load(source)  # noqa: S301 - written by the server
    _limit(resource.RLIMIT_AS, START_BYTES + BYTES_PER_PIXEL * max_pixels)
    left, seconds = max_pixels, float(START_SECONDS)
    for file in files:
        try:
            _limit(resource.RLIMIT_CPU, math.ceil(seconds))
            image = _opened(file, left, max_pixels)
            num_pixels = image.width * image.height
            left, seconds = left - num_pixels, seconds + SECONDS_PER_MEGAPIXEL * num_pixels / 1e6
            _limit(resource.RLIMIT_CPU, math.ceil(seconds))
            image = _pixels(image)
        except UnreadableImage as error:
            message = str(error).encode()
            target.write(HEAD.pack(0, len(message)) + message)
            return
        target.write(HEAD.pack(*image.size))
        target.write(image.tobytes())
        target.flush()


def _limit(kind: int, most: int) -> None:
    """Limit the bytes or the seconds of processor time of this process, within what it may have."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    with suppress(MemoryError):
        _main(sys.stdin.buffer, sys.stdout.buffer)
