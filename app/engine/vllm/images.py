"""Images in prompts: how vLLM takes them, and where they stand."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from vllm.inputs.engine import EngineInput, mm_input, tokens_input

from app.engine.base import Branch
from app.engine.flops.vision import ImageTokens
from app.errors import InvalidRequest
from app.images.loading import IMAGE, has_images


def without_images(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a chat with an empty text in place of each decoded image, which vLLM's request models do not know."""
    return {**body, "messages": _messages(body, {"type": "text", "text": ""})}


@contextmanager
def with_images(request: Any, body: Mapping[str, Any]) -> Iterator[None]:
    """Give vLLM's request the decoded images of the body it was made of, for the block alone: requests are kept, and pixels are large."""
    if not has_images(body):
        yield
        return
    texts, request.messages = request.messages, _messages(body)
    try:
        yield
    finally:
        request.messages = texts


def _messages(body: Mapping[str, Any], instead: dict[str, Any] | None = None) -> list[Any]:
    """Return the messages of a chat with its decoded images in vLLM's form, or with something instead."""

    def part_for_vllm(part: Mapping[str, Any]) -> Mapping[str, Any]:
        return part if part["type"] != IMAGE else instead or {"type": "image_pil", "image_pil": part[IMAGE]}

    return [
        {**message, "content": list(map(part_for_vllm, content))}
        if isinstance(content := message.get("content"), list)
        else message
        for message in body["messages"]
    ]


def check_images(images: Sequence[ImageTokens], room: int) -> None:
    """Raise `InvalidRequest` for an image with more tokens than the engine has room for what the vision tower reads."""
    largest = max((image.encoded for image in images), default=0)
    if largest > room:
        message = f"messages: an image has {largest} tokens, and the engine has room for {room} (`--max-num-batched-tokens`)"
        raise InvalidRequest(message, parameter="messages")


def images_of(rendered: Any) -> tuple[ImageTokens, ...]:
    """Return where the images stand in vLLM's rendered prompt."""
    places = (place for places in rendered.get("mm_placeholders", {}).values() for place in places)
    images = (ImageTokens(place.offset, place.length, place.get_num_embeds()) for place in places)
    return tuple(sorted(images, key=lambda image: image.start))


def input_of(branch: Branch) -> EngineInput:
    """Return what vLLM continues for a branch: tokens, and the images of the prompt where the prefix begins with the prompt.

    In a rendered prompt each image already has all of its tokens, so that generated tokens can follow. vLLM knows an image by a hash,
    under which it keeps what its vision tower has read. The salt makes that the caller's own, as it does for cached prefixes.
    """
    prefix, media, salt = list(branch.prefix), branch.prompt.media, branch.image_salt
    if media is None or not branch.prompt.images_in(branch.prefix):
        return tokens_input(prefix, cache_salt=branch.cache_salt)
    hashes = media["mm_hashes"]
    if salt:
        hashes = {kind: [f"{salt}:{one}" for one in ones] for kind, ones in hashes.items()}
    return mm_input(prefix, media["mm_kwargs"], hashes, media["mm_placeholders"], cache_salt=branch.cache_salt)
