"""The fleet: replicas join, fail, join again and leave, while others serve."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from app.engine.remote import fleet as fleet_module
from app.engine.remote.discovery import Discovery
from app.engine.remote.fleet import Fleet
from app.engine.remote.member import Member, State
from app.engine.replica import ReplicaCard, ReplicaFailed, ReplicaLoad, ReplicaUnfit

pytestmark = pytest.mark.anyio


class Names(Discovery):
    """Addresses that the test changes."""

    def __init__(self, *urls: str) -> None:
        self.urls = list(urls)
        self.may_change_ = True

    @property
    def may_change(self) -> bool:
        return self.may_change_

    async def find(self) -> tuple[str, ...]:
        return tuple(self.urls)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Probes and pauses of milliseconds."""
    for name, value in {"PROBE_S": 0.02, "FIRST_PAUSE_S": 0.01, "LONGEST_PAUSE_S": 0.02, "LOOK_UP_S": 0.02}.items():
        monkeypatch.setattr(fleet_module, name, value)


@asynccontextmanager
async def kept(replicas, names: Names | None = None):
    """A fleet of these replicas, as it runs: `(fleet, changes)`."""
    by_name = {one.name: one for one in replicas}
    changes: list[int] = []

    async def join(member: Member) -> ReplicaCard:
        return await member.replica.describe()

    fleet = Fleet(names or Names(*by_name), by_name.__getitem__, join, lambda: changes.append(len(fleet.ready)))
    task = asyncio.create_task(fleet.run())
    try:
        yield fleet, changes
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(is_true, seconds: float = 5) -> None:
    """Wait for what becomes true."""
    async with asyncio.timeout(seconds):
        while not is_true():  # noqa: ASYNC110 - of many kinds
            await asyncio.sleep(0.002)


async def test_replicas_become_ready(fake_replica) -> None:
    """Each by itself; whoever waits for the first is told."""
    a, b = fake_replica("a"), fake_replica("b", failure=ReplicaFailed("starts"))
    async with kept([a, b]) as (fleet, _):
        assert await fleet.wait_until(lambda: bool(fleet.ready), 5)
        assert [one.name for one in fleet.ready] == ["a"]
        await until(lambda: fleet.members[1].state is State.FAILED)
        assert fleet.members[1].reason == "starts"
        b.failure = None
        await until(lambda: len(fleet.ready) == 2)
    assert a.is_closed
    assert b.is_closed


async def test_a_replica_that_fails_its_probe_is_out_and_comes_back(fake_replica, lost) -> None:
    """Who waits for its tokens is told at once."""
    a = fake_replica("a")
    async with kept([a]) as (fleet, changes):
        await until(lambda: bool(fleet.ready))
        [member] = fleet.ready
        a.failure = lost
        with pytest.raises(ReplicaFailed, match="lost"):
            async with asyncio.timeout(5), member.waiting():
                await asyncio.sleep(4)
        assert not fleet.ready
        a.failure = None
        await until(lambda: bool(fleet.ready))
        assert changes[-1] == 1
        assert 0 in changes


async def test_a_branch_that_fails_takes_its_replica_out_at_once(fake_replica) -> None:
    """It joins again when it is probed; branches of others go on meanwhile."""
    a = fake_replica("a")
    async with kept([a]) as (fleet, _):
        await until(lambda: bool(fleet.ready))
        [member] = fleet.ready
        async with member.waiting():
            member.suspect("its stream broke off")
            assert not fleet.ready
            await until(lambda: bool(fleet.ready))
        assert member.num_failures == 1


async def test_no_error_of_one_replica_ends_the_others(fake_replica) -> None:
    """Whatever its client has overlooked."""
    a, b = fake_replica("a"), fake_replica("b", unfit=ValueError("secret"))
    async with kept([a, b]) as (fleet, _):
        await until(lambda: len(fleet.members) == 2 and fleet.members[1].state is State.FAILED)
        assert fleet.members[1].reason == "ValueError at what it answers"
        b.unfit = None
        await until(lambda: len(fleet.ready) == 2)


async def test_a_wait_that_takes_long_to_end_is_ended_once(fake_replica) -> None:
    """The replica may fail again meanwhile."""
    member, ended = Member(fake_replica("a")), asyncio.Event()

    async def wait() -> None:
        async with member.waiting():
            try:
                await asyncio.sleep(5)
            finally:
                await ended.wait()

    task = asyncio.create_task(wait())
    for _ in range(3):
        await asyncio.sleep(0.01)
        member.lose()
    ended.set()
    with pytest.raises(ReplicaFailed, match="lost"):
        await task


async def test_an_unfit_replica_gets_nothing_and_says_why(fake_replica) -> None:
    """It is looked at again, since an operator may mend it."""
    a = fake_replica("a", unfit=ReplicaUnfit("another model"))
    async with kept([a]) as (fleet, _):
        await until(lambda: fleet.members and fleet.members[0].state is State.UNFIT)
        assert fleet.members[0].status().reason == "another model"
        a.unfit = None
        await until(lambda: bool(fleet.ready))


async def test_a_replica_that_is_no_longer_named_leaves_after_its_last_branch(fake_replica) -> None:
    """It gets no new ones."""
    a, names = fake_replica("a"), Names("a")
    async with kept([a], names) as (fleet, _):
        await until(lambda: bool(fleet.ready))
        [member] = fleet.ready
        with member.holding():
            names.urls = []
            await until(lambda: member.state is State.LEAVING)
            assert not fleet.ready
            await asyncio.sleep(0.1)
            assert not a.is_closed
        await until(lambda: a.is_closed)
        assert not fleet.members


async def test_a_replica_that_makes_no_token_has_failed(fake_replica, monkeypatch) -> None:
    """Its probes succeed, and nothing comes: a hung engine behind a living server."""
    monkeypatch.setattr(fleet_module, "STALL_S", 0.1)
    a = fake_replica("a")
    async with kept([a]) as (fleet, _):
        await until(lambda: bool(fleet.ready))
        a.running = 3
        await until(lambda: fleet.members[0].state is State.FAILED)
        assert "no token within" in fleet.members[0].reason


async def test_a_replica_that_has_lost_a_branch_has_failed(fake_replica, monkeypatch) -> None:
    """It runs nothing, and this server waits for it. As long as parts arrive, none is lost: it may not tell what it runs."""
    monkeypatch.setattr(fleet_module, "STALL_S", 0.1)
    a = fake_replica("a")
    async with kept([a]) as (fleet, _):
        await until(lambda: bool(fleet.ready))
        [member] = fleet.ready

        async def awaited() -> None:
            async with member.waiting():
                await asyncio.sleep(5)

        task = asyncio.create_task(awaited())
        for _ in range(20):
            async with member.waiting():
                await asyncio.sleep(0.01)
        assert member.num_failures == 0
        with pytest.raises(ReplicaFailed):
            await asyncio.wait_for(task, 2)


async def test_a_replica_that_is_named_again_before_it_has_left_stays(fake_replica) -> None:
    """Names may be looked up in part."""
    a, names = fake_replica("a"), Names("a")
    async with kept([a], names) as (fleet, _):
        await until(lambda: bool(fleet.ready))
        [member] = fleet.ready
        with member.holding():
            names.urls = []
            await until(lambda: member.state is State.LEAVING)
            names.urls = ["a"]
            await until(lambda: fleet.ready == [member])
        await asyncio.sleep(0.1)
        assert not a.is_closed


async def test_a_replica_that_leaves_ends_no_branch_when_one_fails(fake_replica) -> None:
    """Only a failed probe does."""
    a, names = fake_replica("a"), Names("a")
    async with kept([a], names) as (fleet, _):
        await until(lambda: bool(fleet.ready))
        [member] = fleet.ready
        with member.holding():
            names.urls, member.is_leaving = [], True
            member.suspect("a branch failed")
            await until(lambda: member.state is State.LEAVING)
            await asyncio.sleep(0.1)
            assert not a.is_closed
        await until(lambda: a.is_closed)


async def test_the_load_counts_other_front_ends(fake_replica) -> None:
    """What a replica counts beyond this server's own branches."""
    member = Member(fake_replica("a"))
    with member.holding():
        member.count(ReplicaLoad(running=5, waiting=2, generated=0))
        assert member.load == 7
    assert member.load == 6


async def test_addresses_of_names() -> None:
    """A literal address, localhost and https are called as they are; another name is as many replicas as it has addresses."""
    urls = ("http://127.0.0.1:1", "http://localhost:2", "https://replica.example:3", "http://[::1]:4")
    assert await Discovery(urls).find() == urls
    assert not Discovery(urls).may_change
    named = Discovery(["http://no-such-name.invalid:5", "http://a..b:6", *urls])
    assert named.may_change
    assert await named.find() == urls


async def test_a_name_is_looked_up(monkeypatch) -> None:
    """Again and again; where that fails, what was found last holds."""
    found = [[("10.0.0.2", 80), ("10.0.0.1", 80), ("10.0.0.1", 80)], None, [("fd00::1", 80, 0, 0)]]

    async def getaddrinfo(host, port, type):  # noqa: A002
        assert (host, port) == ("replicas", 8000)
        answer = found.pop(0)
        if answer is None:
            raise OSError
        return [(0, 0, 0, "", address) for address in answer]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    discovery = Discovery(["http://replicas:8000"])
    assert await discovery.find() == ("http://10.0.0.1:8000", "http://10.0.0.2:8000")
    assert await discovery.find() == ("http://10.0.0.1:8000", "http://10.0.0.2:8000")
    assert await discovery.find() == ("http://[fd00::1]:8000",)
