"""Image files: what is read, and what is refused before it costs memory or time."""

import random
import uuid
from io import BytesIO

import pytest
from PIL import Image

from app.images.decoding import FORMATS, UnreadableImage, data_of, decode
from tests.pictures import BLUE, RED, data_url, huge_png, picture

MOST = 1_000_000


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_becomes_rgb(kind: str) -> None:
    """JPEG and WebP lose a little."""
    image = decode(picture(kind), MOST, MOST)
    assert image.mode == "RGB"
    assert image.size == (40, 30)
    assert image.getpixel((5, 5)) == pytest.approx(RED, abs=12)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [("RGBA", (0, 0, 0, 0), (255, 255, 255)), ("LA", (0, 255), (0, 0, 0)), ("L", 7, (7, 7, 7)), ("1", 1, (255, 255, 255))],
)
def test_other_modes_are_converted(mode: str, colour: object, seen: tuple[int, int, int]) -> None:
    """What is transparent is white."""
    assert decode(picture(mode=mode, colour=colour), MOST, MOST).getpixel((0, 0)) == seen


def test_the_first_frame_of_several_is_read() -> None:
    """The others are not even decoded."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert decode(file.getvalue(), MOST, MOST).getpixel((0, 0)) == pytest.approx(RED, abs=12)


def test_a_photo_stands_upright() -> None:
    """Cameras write how they were held."""
    exif = Image.Exif()
    exif[Image.ExifTags.Base.Orientation] = 6
    assert decode(picture("JPEG", (40, 30), exif=exif), MOST, MOST).size == (30, 40)


def test_no_data_besides_the_pixels_is_kept() -> None:
    """An id in the EXIF data is the image's identity to vLLM: with it, a client could pass one image for another."""
    exif = Image.Exif()
    exif[Image.ExifTags.Base.ImageID] = uuid.uuid4().hex
    image = decode(picture("JPEG", exif=exif), MOST, MOST)
    assert not image.getexif()
    assert not image.info


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no image"), (b"hello", "no image"), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no image"), (picture("BMP"), "no image"), (picture("TIFF"), "no image"),
        (picture("PPM"), "no image"), (picture("ICO", (16, 16)), "no image"),
        (picture(size=(1, 1)), "at least 4"), (picture(size=(3, 300)), "at least 4"), (picture(size=(4, 900)), "200 times"),
        (picture(size=(1001, 1000)), "max_image_pixels"), (huge_png(5_000, 5_000), "max_image_pixels"),
        (huge_png(65_000, 65_000), "max_image_pixels"), (huge_png(2**31 - 1, 2**31 - 1), "max_image_pixels"),
        (picture(size=(300, 300))[:100], "damaged"), (picture("JPEG", (300, 300))[:-200], "damaged"),
        (picture("WEBP")[:30], "no image|damaged"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(data: bytes, reason: str) -> None:
    """Each for the reason that helps."""
    with pytest.raises(UnreadableImage, match=reason):
        decode(data, MOST, MOST)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_refused_or_read(kind: str) -> None:
    """A thousand of them raise no other error."""
    chance = random.Random(0)
    whole = picture(kind, (60, 50))
    for _ in range(250):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            decode(bytes(damaged[: chance.randint(1, len(damaged))]), MOST, MOST)
        except UnreadableImage:
            continue


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:", "form"), ("data:image/png,hello", "form"), ("data:image/png;base64", "form"),
        ("data:image/png;base64,%%%", "base64"), ("data:image/png;base64,abc", "base64"), ("data:image/png;base64,é", "base64"),
        (data_url(bytes(2000)), "max_image_bytes"),
    ],
)  # fmt: skip
def test_a_data_url_that_is_none_is_refused(url: str, reason: str) -> None:
    """Before it is decoded, where it is too long."""
    with pytest.raises(UnreadableImage, match=reason):
        data_of(url, 1000)
    assert data_of(data_url(b"abc"), 1000) == b"abc"
    assert data_of("DATA:;Base64,YWJj", 1000) == b"abc"
