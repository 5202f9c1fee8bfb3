"""The FLOPs of images: charged once to a request, not at all where the prefix cache holds them, and within the budget."""

from dataclasses import replace

import pytest

from app.engine.flops.layers import Layers
from app.engine.flops.vision import ImageTokens, VisionTower
from app.engine.scripted import SMALL
from app.metering.budget import Budget
from app.metering.meter import Meter
from strategies.core.values import StopReason

pytestmark = pytest.mark.anyio

TOWER = VisionTower(layers=(Layers(per_token=1_000_000, per_position=100),), per_token=50, patches_per_token=4)
READER = replace(SMALL, vision=TOWER)
IMAGES = (ImageTokens(start=2, length=10, encoded=8), ImageTokens(start=14, length=18, encoded=16))
PROMPT = 40


async def spend(meter: Meter, *, cached: int) -> int:
    """Run a branch of four tokens, and return its FLOPs."""
    reservation = await meter.reserve(PROMPT, 4, READER.with_images(IMAGES))
    assert reservation is not None
    before = meter.total_flops
    await meter.settle(reservation, cached=cached, generated=4, ran=True)
    return meter.total_flops - before


async def test_an_image_is_charged_to_the_first_branch() -> None:
    """The engine keeps what its tower has read: later branches of the request find it there."""
    meter = Meter(READER, Budget())
    text = sum(READER.branch_cost(PROMPT, 0, 4))
    tower = TOWER.image(8) + TOWER.image(16)
    assert await spend(meter, cached=0) == text + tower
    assert await spend(meter, cached=0) == text
    assert meter.total_flops == 2 * text + tower
    assert meter.saved["cache"] == 0


async def test_an_image_in_the_prefix_cache_costs_nothing() -> None:
    """It is saved. One that the cache holds only in part is read whole."""
    meter = Meter(READER, Budget())
    cached = 20
    assert await spend(meter, cached=cached) == sum(READER.branch_cost(PROMPT, cached, 4)) + TOWER.image(16)
    assert meter.saved["cache"] == READER.saved(PROMPT, cached) + TOWER.image(8)


async def test_a_budget_of_flops_has_room_for_the_image() -> None:
    """A branch starts where the image is paid for as well."""
    needed = sum(READER.with_images(IMAGES).branch_cost(PROMPT, 0, 1))
    meter = Meter(READER, Budget(flops=needed))
    reservation = await meter.reserve(PROMPT, 4, READER.with_images(IMAGES))
    assert reservation is not None
    assert reservation.tokens == 1
    poor = Meter(READER, Budget(flops=needed - 1))
    assert await poor.reserve(PROMPT, 4, READER.with_images(IMAGES)) is None
    assert poor.stopped is StopReason.FLOPS


def test_an_image_in_tiles_costs_as_much_as_its_tiles() -> None:
    """Patches attend within their tile alone; in one piece, to all."""
    tiles = replace(TOWER, tokens_per_tile=4)
    assert tiles.image(12) == 3 * TOWER.image(4) < TOWER.image(12)
    assert tiles.image(0) == TOWER.image(0) == 0
