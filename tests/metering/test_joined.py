"""What several models have spent on one request is told as one account."""

import asyncio

import pytest

from app.engine.scripted import SMALL
from app.metering.budget import Budget
from app.metering.joined import joined
from app.metering.meter import Meter


async def spend(meter: Meter, prompt: int, generated: int, guest: str = "") -> None:
    reservation = await meter.reserve(prompt, generated, guest=(guest, None) if guest else None)
    await meter.settle(reservation, cached=1, generated=generated, ran=True)


@pytest.fixture
def meters() -> dict[str, Meter]:
    """The small model asked a judge; then the big one answered."""
    small, big = Meter(SMALL, Budget()), Meter(SMALL, Budget())

    async def both() -> None:
        await spend(small, 10, 5)
        await spend(small, 20, 1, "judge")
        await spend(big, 12, 7)

    asyncio.run(both())
    small.seconds, big.seconds = {"search": 2.0, "first_token": 1.0}, {"search": 3.0}
    return {"small": small, "big": big}


def test_all_that_was_spent_counts(meters) -> None:
    whole = joined(list(meters.items()), meters["big"])
    assert whole.generated_tokens == 13
    assert whole.total_flops == sum(meter.total_flops for meter in meters.values())
    assert whole.prompt_cached == 1
    assert whole.branches.total() == 0


def test_other_models_are_told_apart(meters) -> None:
    """Also those that took part in the run of another one."""
    whole = joined(list(meters.items()), meters["big"])
    assert {name: spent.tokens["decoded"] for name, spent in whole.guests.items()} == {"small": 5, "judge": 1}
    by_small = joined(list(meters.items()), meters["small"])
    assert {name: spent.tokens["decoded"] for name, spent in by_small.guests.items()} == {"big": 7, "judge": 1}
    flops = sum(spent.flops.total() for spent in whole.guests.values())
    assert flops + meters["big"].total_flops == whole.total_flops


def test_time_is_that_of_all_and_the_first_token_that_of_the_answer(meters) -> None:
    meters["big"].started = meters["small"].started + 4
    assert joined(list(meters.items()), meters["big"]).seconds == {"search": 5.0}
    meters["big"].seconds["first_token"] = 0.5
    assert joined(list(meters.items()), meters["big"]).seconds["first_token"] == 4.5


def test_the_meters_stay_as_they_are(meters) -> None:
    before = {name: dict(meter.tokens) for name, meter in meters.items()}
    joined(list(meters.items()), meters["big"])
    assert {name: dict(meter.tokens) for name, meter in meters.items()} == before
    assert meters["big"].guests == {}


def test_the_rest_of_a_budget_is_what_is_not_spent() -> None:
    """A field without a limit stays without one."""
    rest = Budget(tokens=10, flops=100, seconds=2.0, total_thinking_tokens=5).less(
        tokens=4, flops=100, seconds=0.5, thinking_tokens=9
    )
    assert rest == Budget(tokens=6, flops=0, seconds=1.5, total_thinking_tokens=0)
    assert rest.is_spent
    assert not Budget().less(tokens=9, flops=9, seconds=9.0, thinking_tokens=9).is_spent
