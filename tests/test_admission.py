"""Who is admitted, and who gets the next slot."""

import asyncio

import pytest

from app.admission import Admission
from app.errors import Overloaded, QuotaExceeded
from app.request import Caller

pytestmark = pytest.mark.anyio


def gates(**changes: object) -> Admission:
    return Admission(**{"num_slots": 8, "max_branches": 32, "max_branches_per_key": 24, **changes})


async def hold(admission: Admission, request: object, release: asyncio.Event, log: list[str], name: str) -> None:
    async with admission.slot(request):
        log.append(name)
        await release.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_admits_until_full_and_again_when_somebody_left() -> None:
    """The width of a request counts, and is given back when it ends."""
    admission = gates()
    with (
        admission.admit(Caller("a"), 8),
        admission.admit(Caller("b"), 8),
        admission.admit(Caller("c"), 8),
        admission.admit(Caller("d"), 8),
    ):
        assert admission.load == 1.0
        with pytest.raises(Overloaded) as refusal, admission.admit(Caller("e"), 1):
            pass
        assert refusal.value.retry_after > 0
    assert admission.load == 0.0
    with admission.admit(Caller("e"), 1):
        pass


async def test_one_key_cannot_take_everything() -> None:
    """A key's own branches are counted apart, and refused with another error."""
    admission = gates()
    with admission.admit(Caller("a"), 8), admission.admit(Caller("a"), 8), admission.admit(Caller("a"), 8):
        with pytest.raises(QuotaExceeded), admission.admit(Caller("a"), 1):
            pass
        with admission.admit(Caller("b"), 1):
            pass


async def test_a_request_wider_than_the_engine_is_counted_as_what_it_can_occupy() -> None:
    """Sixty-four branches on eight slots hold eight places, or the server could never take it."""
    admission = gates()
    with admission.admit(Caller("a"), 64):
        assert admission.num_admitted == 8


async def test_wide_requests_never_take_the_last_slots() -> None:
    """One slot in eight is kept: a narrow request starts at once while wide ones fill the engine."""
    admission = gates()
    release, log = asyncio.Event(), []
    with admission.admit(Caller("a"), 16) as wide, admission.admit(Caller("b"), 1) as narrow:
        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(hold(admission, wide, release, log, f"wide {number}"))
            await settle()
            assert admission.num_running == 7
            group.create_task(hold(admission, narrow, release, log, "narrow"))
            await settle()
            assert log[-1] == "narrow"
            release.set()
    assert len(log) == 17
    assert admission.num_running == 0


async def test_a_narrow_request_overtakes_wide_ones_that_wait() -> None:
    """With every slot taken, the next free one goes to the request with the smaller handicap."""
    admission = gates(num_slots=1)
    first, rest, log = asyncio.Event(), asyncio.Event(), []
    with (
        admission.admit(Caller("a"), 1) as holder,
        admission.admit(Caller("b"), 16) as wide,
        admission.admit(Caller("c"), 1) as narrow,
    ):
        async with asyncio.TaskGroup() as group:
            group.create_task(hold(admission, holder, first, log, "holder"))
            await settle()
            group.create_task(hold(admission, wide, rest, log, "wide"))
            group.create_task(hold(admission, narrow, rest, log, "narrow"))
            await settle()
            first.set()
            await settle()
            rest.set()
    assert log == ["holder", "narrow", "wide"]


async def test_whoever_waited_longer_than_the_handicap_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ageing: a wide request that came long before is ahead of a narrow newcomer."""
    now = 100.0
    monkeypatch.setattr("app.admission.time.monotonic", lambda: now)
    admission = gates()
    with admission.admit(Caller("a"), 16) as wide:
        now += 60
        with admission.admit(Caller("b"), 1) as narrow:
            assert wide.priority < narrow.priority


async def test_without_priorities_slots_go_in_order_of_arrival() -> None:
    """The switch turns both the handicap and the reserve off."""
    admission = gates(has_priorities=False)
    release, log = asyncio.Event(), []
    with admission.admit(Caller("a"), 16) as wide, admission.admit(Caller("b"), 1) as narrow:
        assert wide.priority == narrow.priority == 0
        async with asyncio.TaskGroup() as group:
            for number in range(9):
                group.create_task(hold(admission, wide, release, log, f"wide {number}"))
            group.create_task(hold(admission, narrow, release, log, "narrow"))
            await settle()
            assert admission.num_running == 8
            release.set()


async def test_a_waiter_that_gives_up_leaves_no_trace() -> None:
    """Cancelled while waiting, or in the very moment of its turn: the slot goes to the next."""
    admission = gates(num_slots=1)
    release, log = asyncio.Event(), []
    with admission.admit(Caller("a"), 1) as request:
        holder = asyncio.create_task(hold(admission, request, release, log, "holder"))
        await settle()
        doomed = asyncio.create_task(hold(admission, request, release, log, "doomed"))
        heir = asyncio.create_task(hold(admission, request, release, log, "heir"))
        await settle()
        release.set()
        await asyncio.sleep(0)
        doomed.cancel()
        await asyncio.wait([holder, doomed, heir], timeout=1)
    assert "heir" in log
    assert admission.num_running == admission.num_waiting == 0
