"""Replaces the image parts of a conversation by decoded images."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from app.errors import InvalidRequest, first_error_only
from app.images.decoding import UnreadableImage, data_of, is_data_url, too_many_bytes
from app.images.fetching import ImageFetcher
from app.images.processes import decode_apart

IMAGE = "image"
"""The type of a part with a decoded image: `{"type": "image", "image": PIL.Image}`. No client can send it."""

MAX_LOADED = 2
"""Requests whose images are decoded and rendered at the same time; others wait. Pixels take far more memory than the files do."""


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
        self._turns = asyncio.Semaphore(MAX_LOADED)

    @asynccontextmanager
    async def loaded(self, body: Mapping[str, Any], max_images: int) -> AsyncIterator[dict[str, Any]]:
        """Give the body of a chat with its images decoded, for the block alone: a request waits and runs much longer than it is rendered.

        Raises `InvalidRequest` for an image that cannot be read, and for one too many.
        """
        places = list(_places(body["messages"]))
        if len(places) > max_images:
            message = f"{places[max_images].field}: this server reads at most {max_images} images in a request (`max_images`)"
            raise InvalidRequest(message, parameter=places[max_images].field)
        room = _Room(self._limits.max_bytes)
        with first_error_only():
            async with asyncio.TaskGroup() as group:
                files = [group.create_task(self._file(place, room)) for place in places]
        async with self._turns:
            images = await self._decoded(places, [file.result() for file in files])
            messages = list(body["messages"])
            for place, image in zip(places, images, strict=True):
                content = list(messages[place.message]["content"])
                content[place.part] = {"type": IMAGE, IMAGE: image}
                messages[place.message] = {**messages[place.message], "content": content}
            yield {**body, "messages": messages}

    async def _file(self, place: _Place, room: _Room) -> bytes:
        with _named(place):
            if not is_data_url(place.url):
                return await self._fetcher.fetch(place.url, room.take)
            data = await asyncio.to_thread(data_of, place.url, self._limits.max_bytes)
            room.take(len(data))
            return data

    async def _decoded(self, places: Sequence[_Place], files: Sequence[bytes]) -> list[Image]:
        images: list[Image] = []
        for place, found in zip(places, await decode_apart(files, self._limits.max_pixels), strict=False):
            with _named(place):
                if isinstance(found, UnreadableImage):
                    raise found
            images.append(found)
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
