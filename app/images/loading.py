"""Replaces the image parts of a conversation by decoded images."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from app.errors import InvalidRequest, first_error_only
from app.images.decoding import UnreadableImage, data_of, decode, is_data_url, too_many_bytes
from app.images.fetching import ImageFetcher

IMAGE = "image"
"""The type of a part with a decoded image: `{"type": "image", "image": PIL.Image}`. No client can send it."""

MAX_DECODERS = 2
"""Requests whose images are decoded at the same time; others wait. Pixels take far more memory than the files do."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What the operator allows the images of one request together.

    Attributes:
        max_bytes: of the files.
        max_pixels: of the decoded images.

    """

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class _Place:
    """An image part: where it stands in a conversation, and its URL."""

    message: int
    part: int
    url: str

    @property
    def field(self) -> str:
        return f"messages.{self.message}.content.{self.part}.image_url"


class _Room:
    """The bytes that are left to the images of one request."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.left = max_bytes

    def take(self, num_bytes: int) -> None:
        self.left -= num_bytes
        if self.left < 0:
            raise UnreadableImage(too_many_bytes(self._max_bytes))


class ImageLoader:
    """Loads the images of conversations, within the limits.

    Args:
        limits: of one request.
        fetcher: reads images from remote hosts.

    """

    def __init__(self, limits: ImageLimits, fetcher: ImageFetcher) -> None:
        self._limits = limits
        self._fetcher = fetcher
        self._decoders = asyncio.Semaphore(MAX_DECODERS)

    async def load(self, body: Mapping[str, Any], max_images: int) -> dict[str, Any]:
        """Return the body of a chat with its images decoded. Raises `InvalidRequest` for one that cannot be read, or one too many."""
        places = list(_places(body["messages"]))
        if len(places) > max_images:
            message = f"{places[max_images].field}: this server reads at most {max_images} images in a request (`max_images`)"
            raise InvalidRequest(message, parameter=places[max_images].field)
        room = _Room(self._limits.max_bytes)
        with first_error_only():
            async with asyncio.TaskGroup() as group:
                files = [group.create_task(self._file(place, room)) for place in places]
        async with self._decoders:
            images = await asyncio.to_thread(self._decoded, places, [file.result() for file in files])
        messages = list(body["messages"])
        for place, image in zip(places, images, strict=True):
            content = list(messages[place.message]["content"])
            content[place.part] = {"type": IMAGE, IMAGE: image}
            messages[place.message] = {**messages[place.message], "content": content}
        return {**body, "messages": messages}

    async def _file(self, place: _Place, room: _Room) -> bytes:
        with _named(place):
            if not is_data_url(place.url):
                return await self._fetcher.fetch(place.url, room.take)
            data = await asyncio.to_thread(data_of, place.url, self._limits.max_bytes)
            room.take(len(data))
            return data

    def _decoded(self, places: Sequence[_Place], files: Sequence[bytes]) -> list[Image]:
        images: list[Image] = []
        for place, file in zip(places, files, strict=True):
            left = self._limits.max_pixels - sum(image.width * image.height for image in images)
            with _named(place):
                images.append(decode(file, left, self._limits.max_pixels))
        return images


@contextmanager
def _named(place: _Place) -> Iterator[None]:
    """Raise `InvalidRequest`, with the field, in place of `UnreadableImage`."""
    try:
        yield
    except UnreadableImage as error:
        raise InvalidRequest(f"{place.field}: {error}", parameter=place.field) from error


def has_images(body: Mapping[str, Any]) -> bool:
    """Return whether the body of a chat has decoded images."""
    contents = (message.get("content") for message in body["messages"])
    return any(part["type"] == IMAGE for content in contents if isinstance(content, list) for part in content)


def _places(messages: Sequence[Mapping[str, Any]]) -> Iterator[_Place]:
    for number, message in enumerate(messages):
        content = message.get("content")
        for position, part in enumerate(content if isinstance(content, list) else ()):
            if part["type"] == "image_url":
                yield _Place(number, position, part["image_url"]["url"])
