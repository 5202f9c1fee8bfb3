"""Images in all APIs, on an engine that says how large they are; and every image that is refused."""

import base64
import gc
import json
import time
from typing import Any

import pytest
from PIL import Image

from app.engine.scripted import IMAGE_TOKENS
from tests.pictures import data_url, huge_png, image_part, picture

pytestmark = pytest.mark.anyio

PICTURE = data_url(picture(size=(40, 30)))
TEXT = {"type": "text", "text": "What is this?"}


def sees(prompt: str, _number: int) -> str:
    """Answer with what is in the prompt."""
    return "I see " + " ".join(word for word in prompt.split() if word.startswith("<"))


def chat(*parts: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a chat with these parts."""
    return "/v1/chat/completions", {"model": "scripted", "messages": [{"role": "user", "content": [TEXT, *parts]}], **fields}


def respond(*parts: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return the same for the Responses API."""
    return "/v1/responses", {"model": "scripted", "input": [{"role": "user", "content": list(parts)}], **fields}


def message(*blocks: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return the same for Anthropic's API."""
    body = {"model": "scripted", "max_tokens": 50, "messages": [{"role": "user", "content": list(blocks)}], **fields}
    return "/v1/messages", body


def block(source: dict[str, Any]) -> dict[str, Any]:
    """Return an image of Anthropic's API."""
    return {"type": "image", "source": source}


BASE64 = block({"type": "base64", "media_type": "image/png", "data": PICTURE.partition(",")[2]})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        chat(image_part(PICTURE)),
        chat({"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}),
        chat({"type": "image_url", "image_url": PICTURE}),
        respond({"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": PICTURE, "detail": "auto"}),
        message(BASE64, {"type": "text", "text": "What?"}),
        message({"type": "tool_result", "tool_use_id": "1", "content": [BASE64]}),
    ],
)  # fmt: skip
async def test_every_api_takes_images(serve, path: str, body: dict) -> None:
    """Their tokens are counted."""
    async with serve(sees, max_images=4) as served:
        reply = (await served.client.post(path, json=body)).json()
        assert "I see <40x30> <40x30> <40x30> <40x30>" in json.dumps(reply, ensure_ascii=False)
        [branch] = served.engine.branches
        assert reply["usage"][next(name for name in ("prompt_tokens", "input_tokens") if name in reply["usage"])] == len(
            branch.prefix
        )
        [image] = branch.prompt.images
        assert image.length == IMAGE_TOKENS


async def test_images_are_counted_and_tokenised(serve) -> None:
    """As in a request for an answer."""
    async with serve(sees, max_images=4) as served:
        path, body = chat(image_part(PICTURE))
        asked = (await served.client.post(path, json=body)).json()["usage"]["prompt_tokens"]
        tokens = (await served.client.post("/tokenize", json={"messages": body["messages"]})).json()["count"]
        _, counted = message({"type": "text", "text": "What is this?"}, BASE64)
        count = (await served.client.post("/v1/messages/count_tokens", json=counted)).json()["input_tokens"]
        assert asked == tokens == count


@pytest.mark.parametrize(
    "strategy",
    ["self_consistency", "best_of_n", "beam_search", "mcts", "tree_of_thoughts", "sequential_revision", "self_aggregation"],
)
async def test_every_strategy_reads_the_image_in_every_branch(serve, strategy: str) -> None:
    """A search continues the prompt, and the prompt has the image."""
    async with serve(lambda *_: "Step.\n\nThe answer is 4.", max_images=1) as served:
        path, body = chat(image_part(PICTURE), ponder={"strategy": strategy, "answer": "math"})
        reply = await served.client.post(path, json=body)
        assert reply.status_code == 200, reply.text
        branches = served.engine.branches
        assert len(branches) > 1
        assert all(branch.prompt.images_in(branch.prefix) for branch in branches if not branch.options)


async def test_truncation_counts_images(serve) -> None:
    """The oldest item goes, and the image stays."""
    async with serve(sees, max_images=4) as served:
        old = {"role": "user", "content": "word " * 2500}
        _, body = respond({"type": "input_image", "image_url": PICTURE}, truncation="auto")
        reply = (await served.client.post("/v1/responses", json={**body, "input": [old, *body["input"]]})).json()
        assert reply["output_text"] if "output_text" in reply else "<40x30>" in json.dumps(reply["output"])
        assert "left out" in json.dumps(reply["ponder"]["notes"])


BAD = {
    "no url": ({"type": "image_url"}, "image_url"),
    "an empty url": (image_part(""), "image_url"),
    "a number": (image_part(7), "image_url"),  # type: ignore[arg-type] # on purpose
    "a text": (image_part(data_url(b"hello")), "no image"),
    "broken base64": (image_part("data:image/png;base64,@@@"), "base64"),
    "a data url without data": (image_part("data:image/png"), "form"),
    "a vector": (image_part(data_url(b"<svg/>", "image/svg+xml")), "no image"),
    "half a file": (image_part(data_url(picture("JPEG", (300, 300))[:-200])), "damaged"),
    "one pixel": (image_part(data_url(picture(size=(1, 1)))), "at least 4"),
    "a bomb": (image_part(data_url(huge_png(60_000, 60_000))), "pixels"),
    "a file": (image_part("file:///etc/passwd"), "data URL"),
    "another host": (image_part("http://127.0.0.1:9/x.png"), "allowed_media_domains"),
    "metadata": (image_part("http://169.254.169.254/latest/meta-data"), "allowed_media_domains"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_bad_image_is_refused_by_name(serve, fault: str, stream: bool) -> None:
    """Before the answer begins."""
    part, words = BAD[fault]
    async with serve(sees, max_images=4) as served:
        path, body = chat(image_part(PICTURE), part, stream=stream)
        reply = await served.client.post(path, json=body)
        assert reply.status_code == 400, reply.text
        error = reply.json()["error"]
        assert words in error["message"]
        assert error["param"].startswith("messages.0.content.2")
        assert not served.engine.branches


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (*chat({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}), "cannot read audio, only text and image"),
        (*chat({"type": "video_url", "video_url": {"url": "http://127.0.0.1:9/x"}}), "cannot read video, only text and image"),
        (*chat({"type": "image", "image": "x"}), "no part of the type image"),
        (*chat({"type": "image_pil", "image_pil": "x"}), "no part of the type image_pil"),
        (*chat({"type": "image_embeds", "image_embeds": "x"}), "no part of the type image_embeds"),
        (*chat(*[image_part(PICTURE)] * 5), "messages.0.content.5.image_url: this server reads at most 4 images"),
        (*respond({"type": "input_image", "file_id": "file-1"}), "keeps no files"),
        (*respond({"type": "input_image", "image_url": "http://a.b/"}, instructions="Hi."), "input.0.content.0.image_url: images of"),
        (*message(block({"type": "file", "file_id": "1"})), "base64"),
        (*message(block({"type": "url", "url": "http://a.example/"}), system="Be brief."), "messages.0: images of the host"),
        (*message(block({"type": "base64", "data": "AAAA"})), "messages.0: it is no image"),
    ],
)  # fmt: skip
async def test_what_is_not_read_is_said_in_words(serve, path: str, body: dict, words: str) -> None:
    """With each API's own names of fields."""
    async with serve(sees, max_images=4) as served:
        reply = await served.client.post(path, json=body)
        assert reply.status_code == 400, reply.text
        assert words in reply.json()["error"]["message"]


async def test_a_model_of_texts_reads_no_image(serve) -> None:
    """And nothing is decoded or opened for it."""
    async with serve(sees) as served:
        for path, body in (
            chat(image_part("http://127.0.0.1:9/x.png")),
            message(BASE64),
            respond({"type": "input_image", "image_url": "x"}),
        ):
            reply = await served.client.post(path, json=body)
            assert reply.status_code == 400
            assert "cannot read image, only text" in reply.json()["error"]["message"]


async def test_images_together_are_bounded(serve) -> None:
    """By their bytes and by their pixels; and a body with more is not read to its end."""
    two = [image_part(PICTURE)] * 2
    for settings, words in (
        ({"max_image_pixels": 2000}, "at most 2000 pixels together"),
        ({"max_image_bytes": 1024}, "at most 1024 bytes together"),
    ):
        large = image_part(data_url(picture(size=(40, 30)) + bytes(1000)))
        async with serve(sees, max_images=4, **settings) as served:
            path, body = chat(*two, large)
            reply = await served.client.post(path, json=body)
            assert reply.status_code == 400, reply.text
            assert words in reply.json()["error"]["message"]
    async with serve(sees, max_images=4, max_image_bytes=90_000, max_body_bytes=10_000) as served:
        path, body = chat(image_part(data_url(bytes(60_000))))
        assert (await served.client.post(path, json=body)).status_code == 400  # read, and no image
        path, body = chat(image_part(data_url(bytes(120_000))))
        assert (await served.client.post(path, json=body)).status_code == 413
    async with serve(sees, max_body_bytes=10_000) as served:
        path, body = chat(image_part(data_url(bytes(60_000))))
        assert (await served.client.post(path, json=body)).status_code == 413


async def test_images_make_a_body_larger_and_not_more_values_of_it(serve) -> None:
    """To read millions of values takes seconds, in which nobody else is answered."""
    async with serve(sees, max_images=4, max_body_bytes=100_000) as served:
        path, body = chat(image_part(PICTURE), metadata={"a": "," * 40_000})
        assert (await served.client.post(path, json=body)).status_code == 200
        for many in ([[]] * 60_000, [0] * 60_000, dict.fromkeys(map(str, range(60_000)), 0)):
            path, body = chat(image_part(PICTURE), metadata=many)
            reply = await served.client.post(path, json=body)
            assert reply.status_code == 413, reply.text
            assert "too many values" in reply.json()["error"]["message"]


async def test_pixels_are_dropped_before_the_answer(serve) -> None:
    """They take a thousand times the memory of a file, and requests may wait for minutes."""
    held: list[tuple[int, int]] = []

    def look(prompt: str, number: int) -> str:
        time.sleep(0.1)  # the thread that brought them ends its work
        # by its type: `isinstance` asks objects for their class, and some of a library's warn then
        held.extend(one.size for one in gc.get_objects() if issubclass(type(one), Image.Image) and one.size == (41, 31))
        return sees(prompt, number)

    async with serve(look, max_images=1) as served:
        path, body = chat(image_part(data_url(picture(size=(41, 31)))))
        assert "I see <41x31>" in (await served.client.post(path, json=body)).text
    assert not held


async def test_bad_images_do_not_hold_up_others(serve) -> None:
    """What takes time is done in threads."""
    text = base64.b64encode(bytes(6_000_000)).decode()
    async with serve(sees, max_images=4) as served:
        path, body = chat(image_part(f"data:image/png;base64,{text}"))
        assert (await served.client.post(path, json=body)).status_code == 400
        assert (await served.chat("Hello")).status_code == 200
