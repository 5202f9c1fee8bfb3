"""Decodes data URLs and image files. All of it takes long for a large image, so call it in a thread.

Only formats are read that other servers of this kind read too. Pillow has decoders of dozens of old formats, each of which is one more
way to attack a server.
"""

import base64
import binascii
from io import BytesIO

from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")

MIN_SIDE = 4
"""The shortest side of an image in pixels. An array with a side of 1 or 3 may be taken for one whose colours come first."""

MAX_RATIO = 200
"""The most that one side may be longer than the other. Models that keep the ratio refuse longer images."""

_WHITE = (255, 255, 255)


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
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(too_many_pixels(max_pixels)) from error
    except Exception as error:  # Pillow's parsers raise errors of many kinds
        raise UnreadableImage(f"it is no image in one of the formats {', '.join(FORMATS)}") from error
    _check_size(image, pixels_left, max_pixels)
    try:
        return _on_white(ImageOps.exif_transpose(image))
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
