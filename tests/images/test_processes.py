"""Image files that would end or block the process that decodes them."""

import asyncio
import io
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.images import decoding, processes
from app.images.decoding import UnreadableImage
from app.images.processes import TOO_COSTLY, decode_apart
from tests.pictures import BLUE, RED, picture

pytestmark = pytest.mark.anyio

MOST = 1_000_000

Decode = Callable[..., Awaitable[list[Any]]]


def scans(number: int) -> bytes:
    """Return a JPEG file with so many scans, each of which says in a few bytes that it changes no pixel."""
    file = picture("JPEG", (900, 900), 128, mode="L", progressive=True)
    last = file.rindex(b"\xff\xda")
    return file[:-2] + file[last:-2] * number + file[-2:]


def segments(number: int) -> bytes:
    """Return a JPEG file with so many segments of EXIF data, which are joined one by one."""
    whole = picture("JPEG")
    return whole[:2] + b"\xff\xe1\x00\x0aExif\0\0II" * number + whole[2:]


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Limits the program to a second of processor time, so that the tests are short."""
    program = tmp_path / "decoding.py"
    text = Path(decoding.__file__).read_text(encoding="utf-8").replace("START_SECONDS = 3", "START_SECONDS = 1")
    program.write_text(text, encoding="utf-8")
    monkeypatch.setattr(processes.decoding, "__file__", str(program))


async def test_images_are_decoded_in_order() -> None:
    """With the sizes and pixels that they have."""
    red, blue = await decode_apart([picture(size=(40, 30)), picture("WEBP", (8, 9), BLUE)], MOST)
    assert (red.size, blue.size) == ((40, 30), (8, 9))
    assert red.getpixel((1, 1)) == pytest.approx(RED, abs=12)
    assert await decode_apart([], MOST) == []


async def test_the_first_that_cannot_be_read_is_told() -> None:
    """The pixels of the images before it count."""
    good, bad = await decode_apart([picture(), b"hello", picture()], MOST)
    assert good.size == (40, 30)
    assert isinstance(bad, UnreadableImage)
    assert "no image" in str(bad)
    _, late = await decode_apart([picture(size=(40, 30))] * 2, 2000)
    assert "at most 2000 pixels together" in str(late)


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("file", [scans(20_000), segments(300_000)], ids=["scans", "segments"])
async def test_what_takes_hours_is_refused(file: bytes) -> None:
    """The file is of a few megabytes at most. The kernel ends the program, and the next image is read."""
    good, bad = await decode_apart([picture(), file], MOST)
    assert good.size == (40, 30)
    assert isinstance(bad, UnreadableImage)
    assert TOO_COSTLY in str(bad)
    [again] = await decode_apart([picture()], MOST)
    assert again.size == (40, 30)


async def test_nothing_is_decoded_for_a_client_that_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends at once."""
    started: list[subprocess.Popen[bytes]] = []
    start, has_started = processes._start, asyncio.Event()

    def keep() -> subprocess.Popen[bytes]:
        started.append(start())
        has_started.set()
        return started[0]

    monkeypatch.setattr(processes, "_start", keep)
    asked = asyncio.create_task(decode_apart([scans(20_000)], MOST))
    await has_started.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert started[0].poll() is not None


async def test_a_program_that_cannot_start_is_no_fault_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.decoding, "__file__", "/nowhere.py")
    with pytest.raises(RuntimeError, match="status"):
        await decode_apart([picture()], MOST)


def test_pixels_come_back_as_they_were() -> None:
    """In a form without a file."""
    image = decoding.decode(picture(), MOST, MOST)
    copy = Image.open(io.BytesIO(picture())).convert("RGB")
    assert image.tobytes() == copy.tobytes()
