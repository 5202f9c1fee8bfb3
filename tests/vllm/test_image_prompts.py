"""Prompts with images, made by vLLM's own renderer and the image processor of a tiny model. No engine is started."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.engine.base import Branch, Prompt
from app.engine.vllm.options import EngineOptions
from app.engine.weights.default_model import ensure_default_model
from app.errors import InvalidRequest
from app.images.fetching import ImageFetcher
from app.images.loading import ImageLimits, ImageLoader
from tests.pictures import BLUE, data_url, image_part, picture
from tests.vision_model import TILE_TOKENS, make_vision_model
from tests.vllm.front_end import without_engine

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

CONTEXT = 384
SQUARE = image_part(data_url(picture(size=(40, 40))))
WIDE = image_part(data_url(picture(size=(300, 100), colour=BLUE)))

Render = Callable[..., Awaitable[Prompt]]


@pytest.fixture(scope="module")
def rendering(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The rendering of the tiny model, over the parts of vLLM that need no engine process."""
    folder = tmp_path_factory.mktemp("vision") / "tiny"
    make_vision_model(ensure_default_model(Path("~/.cache/ponder").expanduser(), print), folder)
    from app.engine.vllm.arguments import engine_arguments
    from app.engine.vllm.rendering import Rendering

    options = EngineOptions(model=str(folder), name="tiny", max_model_len=CONTEXT, dtype="float32", enforce_eager=True)
    llm = without_engine(engine_arguments(options).create_engine_config())
    return Rendering(options, lambda: llm)


@pytest.fixture
def render(rendering: Any) -> Render:
    """`await render(part, …, text=…)`: the prompt of one message, which is also tokenised."""
    loader = ImageLoader(ImageLimits(10**7, 10**7), ImageFetcher((), 5))

    async def rendered(*parts: dict[str, Any], text: str = "What is this?") -> Prompt:
        content = [*parts, {"type": "text", "text": text}]
        given = {"messages": [{"role": "user", "content": content}], "max_completion_tokens": 8}
        async with loader.loaded(given, rendering.max_images) as body:
            prompt: Prompt = await rendering.chat(body, None)
            chat = {"messages": body["messages"], "add_generation_prompt": True}
            assert await rendering.tokenize(chat, template=None) == prompt.token_ids
        return prompt

    return rendered


async def test_an_image_has_the_tokens_of_its_squares(rendering: Any, render: Render) -> None:
    """Those that the tower reads are told from those that mark rows. The request keeps no pixels."""
    assert rendering.max_images == 16
    prompt = await render(SQUARE, WIDE)
    square, wide = prompt.images
    assert (square.encoded, wide.encoded) == (5 * TILE_TOKENS, 3 * TILE_TOKENS)  # four or two squares, and the whole image
    assert 0 < square.start < square.end <= wide.start < wide.end < len(prompt.token_ids)
    assert square.length > square.encoded
    assert "PIL" not in repr(prompt.request.messages)
    assert not (await render(text="What is this?")).images


async def test_a_branch_continues_the_tokens_behind_an_image(render: Render) -> None:
    """With the images of the prompt, whose hashes have the caller's salt; a prefix of other tokens has none."""
    from app.engine.vllm.images import input_of

    prompt = await render(SQUARE)
    branch = Branch(id="1", prompt=prompt, prefix=(*prompt.token_ids, 5, 6), max_tokens=3, cache_salt="a:b", image_salt="a")
    continued: Any = input_of(branch)
    assert continued["prompt_token_ids"] == [*prompt.token_ids, 5, 6]
    assert continued["cache_salt"] == "a:b"
    [salted], [plain] = continued["mm_hashes"]["image"], prompt.media["mm_hashes"]["image"]
    assert salted == f"a:{plain}"
    [place] = continued["mm_placeholders"]["image"]
    assert place.offset == prompt.images[0].start
    assert all(item is not None for item in continued["mm_kwargs"]["image"])
    other: Any = input_of(Branch(id="2", prompt=prompt, prefix=(1, 2, 3), max_tokens=3))
    assert other["type"] == "token"


async def test_what_does_not_fit_is_refused(render: Render) -> None:
    """In the context, or in what the engine has room for."""
    with pytest.raises(InvalidRequest, match=f"a context of {CONTEXT}") as refused:
        await render(*[WIDE] * 16)
    assert refused.value.parameter == "messages"


@pytest.mark.parametrize("size", [(4, 4), (4, 800), (2000, 10), (1000, 1000)])
async def test_odd_sizes_are_read(render: Render, size: tuple[int, int]) -> None:
    """The processor makes squares of them."""
    [image] = (await render(image_part(data_url(picture(size=size))))).images
    assert image.encoded % TILE_TOKENS == 0


@pytest.mark.parametrize("text", ["<image>", "<fake_token_around_image><global-img><image><image>"])
async def test_markers_in_a_text_are_no_images(render: Render, text: str) -> None:
    """Beside an image, and alone."""
    assert len((await render(SQUARE, text=text)).images) == 1
    assert not (await render(text=text)).images
