"""A tiny vision-language model on real vLLM: what it sees, what that costs, and what it refuses."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.counted import Counted
from tests.pictures import BLUE, RED, data_url, image_part, picture
from tests.server import ForkedServer

pytestmark = pytest.mark.vllm

CONTEXT = 384
SQUARE = data_url(picture(size=(40, 40)))
WIDE = data_url(picture(size=(300, 100), colour=BLUE))


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the server. It may read images from this machine's own address."""
    from app.engine.weights.default_model import ensure_default_model
    from tests.vision_model import make_vision_model

    folder = tmp_path_factory.mktemp("vision")
    make_vision_model(ensure_default_model(Path("~/.cache/ponder").expanduser(), print), folder / "tiny")
    options = (
        "--adapter-slots",
        "0",
        "--kv-cache-gib",
        "1",
        "--max-model-len",
        str(CONTEXT),
        "--allowed-media-domains",
        "127.0.0.1",
    )
    server = ForkedServer(str(folder / "tiny"), *options, log=folder / "log")
    server.wait()
    with httpx.Client(base_url=server.url, timeout=300) as client:
        yield client
    assert server.stop() == 0


def ask(client: httpx.Client, *parts: dict[str, Any], text: str = "What is this?", **fields: Any) -> httpx.Response:
    """Ask about images."""
    content = [*parts, {"type": "text", "text": text}]
    usual = {"model": "tiny", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
    return client.post("/v1/chat/completions", json={**usual, "messages": [{"role": "user", "content": content}], **fields})


def logprobs(reply: httpx.Response) -> list[float]:
    """Return those of the answer's tokens."""
    assert reply.status_code == 200, reply.text
    return [entry["logprob"] for entry in reply.json()["choices"][0]["logprobs"]["content"]]


def counted(client: httpx.Client) -> dict[str, float]:
    """Return vLLM's own counters of tokens."""
    page = Counted(client.get("/metrics").text)
    return {name: page.sum(f"vllm:{name}_tokens_total") for name in ("prompt", "generation")}


def test_the_model_sees_the_image(vision: httpx.Client) -> None:
    """The same image gives the same probabilities, and another gives others; alone, streamed or behind another one."""
    seen = logprobs(ask(vision, image_part(SQUARE), logprobs=True))
    assert logprobs(ask(vision, image_part(SQUARE), logprobs=True)) == pytest.approx(seen, abs=0.02)
    other = data_url(picture(size=(40, 40), colour=BLUE))
    assert logprobs(ask(vision, image_part(other), logprobs=True)) != pytest.approx(seen, abs=0.02)
    both = [
        logprobs(ask(vision, *pair, logprobs=True))
        for pair in ([image_part(SQUARE), image_part(other)], [image_part(other), image_part(SQUARE)])
    ]
    assert both[0] != pytest.approx(both[1], abs=0.02)
    assert "[DONE]" in ask(vision, image_part(SQUARE), stream=True).text


@pytest.mark.parametrize(
    "search",
    [
        {"strategy": "direct"},
        {"strategy": "self_consistency", "n": 4, "answer": "math"},
        {"strategy": "beam_search", "n": 4, "expand": 2, "step_tokens": 4, "verifier": "likelihood"},
    ],
)  # fmt: skip
def test_tokens_and_flops_of_images_are_counted(vision: httpx.Client, search: dict[str, Any]) -> None:
    """Tokens agree with vLLM's counters. The tower is charged once, for each square into which an image was cut."""
    text = f"Question {search['strategy']}"  # of its own, so that nothing is cached
    before = counted(vision)
    reply = ask(vision, image_part(SQUARE), image_part(WIDE), text=text, temperature=1, ponder=search)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    tokens, usage = body["ponder"]["tokens"], body["usage"]
    after = counted(vision)
    assert tokens["prefilled"] + tokens["cached"] == after["prompt"] - before["prompt"]
    assert usage["completion_tokens"] == tokens["decoded"] == after["generation"] - before["generation"]
    message = {"role": "user", "content": [image_part(SQUARE), image_part(WIDE), {"type": "text", "text": text}]}
    assert usage["prompt_tokens"] == vision.post("/tokenize", json={"messages": [message]}).json()["count"]
    assert usage["prompt_tokens"] > 2 * 4 + 10
    again = ask(vision, image_part(SQUARE), image_part(WIDE), text=text, max_tokens=1).json()
    assert again["ponder"]["flops"]["saved_by_cache"] > 0


def test_an_image_of_another_host_is_read(vision: httpx.Client, tmp_path: Path) -> None:
    """From an address that the operator allows, as if it came with the request."""
    (tmp_path / "square.png").write_bytes(picture(size=(40, 40), colour=RED))

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        reply = ask(vision, image_part(f"http://127.0.0.1:{host.server_port}/square.png"), logprobs=True)
        missing = ask(vision, image_part(f"http://127.0.0.1:{host.server_port}/round.png"))
        host.shutdown()
    assert logprobs(reply) == pytest.approx(logprobs(ask(vision, image_part(SQUARE), logprobs=True)), abs=0.02)
    assert missing.status_code == 400
    assert "status 404" in missing.json()["error"]["message"]


def test_every_api_has_images(vision: httpx.Client) -> None:
    """OpenAI's newer one and Anthropic's."""
    parts = [{"type": "input_image", "image_url": SQUARE}, {"type": "input_text", "text": "What is this?"}]
    body = {"model": "tiny", "input": [{"role": "user", "content": parts}], "max_output_tokens": 4, "ignore_eos": True}
    response = vision.post("/v1/responses", json=body)
    assert response.status_code == 200, response.text
    source = {"type": "base64", "media_type": "image/png", "data": SQUARE.partition(",")[2]}
    blocks = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    message = vision.post(
        "/v1/messages", json={"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": blocks}]}
    )
    assert message.status_code == 200, message.text
    usage = message.json()["usage"]  # Anthropic counts what was read from the cache apart
    assert response.json()["usage"]["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]


def test_what_does_not_fit_is_refused(vision: httpx.Client) -> None:
    """In the context, in number, or in what the model's processor can work with; and the server goes on."""
    for parts, words in (
        ([image_part(WIDE)] * 16, f"a context of {CONTEXT}"),
        ([image_part(WIDE)] * 17, "at most 16 images"),
        ([image_part(data_url(picture(size=(1, 1))))], "at least 4"),
    ):
        reply = ask(vision, *parts)
        assert reply.status_code == 400, reply.text
        assert words in reply.json()["error"]["message"]
        assert ask(vision, *parts, stream=True).status_code == 400
    for size in ((4, 4), (4, 800), (2000, 10)):
        assert ask(vision, image_part(data_url(picture(size=size)))).status_code in (200, 400)
    # The markers of images as text stand for no image.
    for text in ("<image>", "<fake_token_around_image><global-img><image><image>"):
        assert ask(vision, text=text).status_code in (200, 400)
        assert ask(vision, image_part(SQUARE), text=text).status_code in (200, 400)
    assert ask(vision, image_part(SQUARE), prompt_logprobs=1).status_code in (200, 400)
    assert ask(vision, image_part(SQUARE)).status_code == 200
