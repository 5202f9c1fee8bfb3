"""Which requests are admitted, and which branch gets the next slot."""

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


async def test_requests_are_admitted_until_the_server_is_full_and_again_after_one_ends() -> None:
    """A request counts with its width, which is free again when the request ends."""
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
    """The branches of each key are counted apart, and refused with another error."""
    admission = gates()
    with admission.admit(Caller("a"), 8), admission.admit(Caller("a"), 8), admission.admit(Caller("a"), 8):
        with pytest.raises(QuotaExceeded, match="of this caller") as refusal, admission.admit(Caller("a"), 1):
            pass
        assert refusal.value.retry_after > 0
        with admission.admit(Caller("b"), 1):
            pass


async def test_a_request_wider_than_the_engine_is_counted_as_what_it_can_occupy() -> None:
    """64 branches on 8 slots count as 8. Otherwise the server could never admit such a request."""
    admission = gates()
    with admission.admit(Caller("a"), 64):
        assert admission.num_admitted == 8


async def test_wide_requests_never_take_the_last_slots() -> None:
    """One slot in eight is reserved, so a narrow request starts at once while wide ones fill the engine."""
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
    """With all slots taken, the next free one goes to the request with the smaller handicap."""
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


async def test_a_request_that_waited_longer_than_its_handicap_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide request that arrived long before is ahead of a narrow newcomer."""
    now = 100.0
    monkeypatch.setattr("app.admission.time.monotonic", lambda: now)
    admission = gates()
    with admission.admit(Caller("a"), 16) as wide:
        now += 60
        with admission.admit(Caller("b"), 1) as narrow:
            assert wide.priority < narrow.priority


async def test_without_priorities_slots_go_in_order_of_arrival() -> None:
    """The switch turns off both the handicap and the reserved slots."""
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
    """It may be cancelled while it waits or in the moment when it gets the slot. The slot goes to the next waiter."""
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


async def test_slots_come_and_go_while_branches_wait() -> None:
    """Those that run go on when there are fewer slots, and no other begins before there is room; those that wait begin when it grows."""
    admission, release, log = gates(has_priorities=False), asyncio.Event(), []
    with admission.admit(Caller("a"), 8) as request:
        tasks = [asyncio.create_task(hold(admission, request, release, log, str(number))) for number in range(12)]
        await settle()
        for num_slots, num_running, num_waiting in ((2, 8, 4), (10, 10, 2), (1, 10, 2), (32, 12, 0)):
            admission.resize(num_slots)
            await settle()
            assert (admission.num_running, admission.num_waiting) == (num_running, num_waiting)
        release.set()
        await asyncio.gather(*tasks)
    assert (admission.num_admitted, admission.num_running) == (0, 0)


async def test_spare_slots_are_lent_only_where_nobody_needs_them() -> None:
    """The place is behind all requests, and counts neither as load nor in a quota. The reserved slots are not lent."""
    admission = gates()
    release, log = asyncio.Event(), []
    assert admission.admit_spare(Caller("a"), 8) is None
    spare = admission.admit_spare(Caller("a"), 7)
    assert admission.load == 0
    with admission.admit(Caller("a"), 24) as request:
        assert spare.priority > request.priority
        holder = asyncio.create_task(hold(admission, request, release, log, "holder"))
        await settle()
        assert admission.admit_spare(Caller("a"), 7) is None
        assert admission.admit_spare(Caller("a"), 6) is not None
        release.set()
        await holder
