"""Adapters on replicas: on all or on some of them, and on none where one does not take them."""

import asyncio

import pytest

from adapters.errors import AdapterFailed
from adapters.object_store import ObjectStore
from adapters.ports import EngineAdapter
from app.engine.remote import adapters as adapters_module
from app.engine.remote.adapters import ReplicaAdapters
from app.engine.remote.member import Member, State
from app.engine.replica import ReplicaCard, ReplicaFailed, ReplicaUnfit, RequestFailed, RequestRefused, TokenPart
from app.errors import first_error_only

pytestmark = pytest.mark.anyio

A, B = (EngineAdapter(f"{name}#1", number, f"/{name}", f"{name}:sha") for number, name in enumerate("ab", 1))


class Members:
    """What `ReplicaAdapters` asks of a fleet."""

    def __init__(self, *replicas) -> None:
        self.members = [Member(one, State.READY) for one in replicas]

    @property
    def ready(self) -> list[Member]:
        return [one for one in self.members if one.state is State.READY]


async def test_an_adapter_is_loaded_on_all_and_known_to_those_that_join(fake_replica) -> None:
    """Before they get branches."""
    fleet = Members(fake_replica("a"), fake_replica("b"))
    adapters = ReplicaAdapters(fleet, None, (1,))
    await adapters.load(A)
    assert all(one.replica.adapters == {"a:sha"} for one in fleet.members)
    assert adapters.loaded() == {1}
    late = Member(fake_replica("c"))
    await adapters.bring(late)
    assert late.adapters == late.replica.adapters == {"a:sha"}
    await adapters.unload(A)
    assert not any(one.replica.adapters for one in fleet.members)
    assert not adapters.loaded()


@pytest.mark.parametrize(("reads_store", "path"), [(True, "file:///store/a/sha"), (False, "/a")])
async def test_a_replica_that_reads_the_store_is_told_urls(fake_replica, reads_store, path) -> None:
    """Others are told the path here: they may have mounted it."""
    told = []

    async def load_adapter(adapter):
        told.append(adapter.path)

    replica = fake_replica("a")
    replica.load_adapter = load_adapter
    fleet = Members(replica)
    fleet.members[0].card = ReplicaCard("m", "0.32.0", 100, reads_store=reads_store)
    await ReplicaAdapters(fleet, None, (1,), ObjectStore("file:///store")).load(A)
    assert told == [path]


async def test_what_another_front_end_holds_stays_on_the_replicas(fake_replica) -> None:
    """The last one that holds it unloads it."""
    fleet, others = Members(fake_replica("a")), {"a:sha"}
    adapters = ReplicaAdapters(fleet, None, (1,))
    adapters.is_held_elsewhere = others.__contains__
    for left in ({"a:sha"}, set()):
        await adapters.load(A)
        await adapters.unload(A)
        assert fleet.members[0].replica.adapters == left
        assert not adapters.loaded()
        others.clear()


async def test_an_adapter_that_is_unloaded_while_a_replica_joins_does_not_stay_there(fake_replica) -> None:
    """It would hold a slot for nobody."""
    fleet, late = Members(fake_replica("a")), Member(fake_replica("late"))
    adapters = ReplicaAdapters(fleet, None, (1,))
    await adapters.load(A)
    load = late.replica.load_adapter

    async def slow(adapter: EngineAdapter) -> None:
        await adapters.unload(adapter)
        await load(adapter)

    late.replica.load_adapter = slow
    await adapters.bring(late)
    assert late.adapters == late.replica.adapters == set()


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_replica_that_gives_no_token_with_it_keeps_nobody_waiting(fake_replica, monkeypatch, hangs) -> None:
    """It may hang, or fail at this request alone."""
    monkeypatch.setattr(adapters_module, "PROBE_S", 0.05)
    replica = fake_replica("a", pauses=hangs)
    adapters = ReplicaAdapters(Members(replica), None, (1,))
    await adapters.load(A)
    if not hangs:
        replica.failure = RequestFailed()
    async with asyncio.timeout(1):
        with pytest.raises(AdapterFailed), first_error_only():
            await adapters.probe(A)
    assert replica.running == 0


async def test_where_one_replica_refuses_none_keeps_it(fake_replica) -> None:
    """The name then still stands for what it stood for."""
    fleet = Members(fake_replica("a"), fake_replica("b", refuses={"a:sha"}))
    adapters = ReplicaAdapters(fleet, None, (1,))
    with pytest.raises(AdapterFailed, match="No"):
        await adapters.load(A)
    assert not any(one.replica.adapters | one.adapters for one in fleet.members)
    assert not adapters.loaded()


async def test_a_replica_that_fails_meanwhile_is_out_and_no_obstacle(fake_replica, lost) -> None:
    """It gets the adapter when it joins again."""
    fleet = Members(fake_replica("a"), fake_replica("b", failure=lost))
    adapters = ReplicaAdapters(fleet, None, (1,))
    await adapters.load(A)
    await adapters.probe(A)
    assert [one.name for one in fleet.ready] == ["a"]


async def test_without_a_replica_nothing_is_loaded(fake_replica) -> None:
    """A swap fails, and the old version goes on."""
    adapters = ReplicaAdapters(Members(), None, (1,))
    for attempt in (adapters.load(A), adapters.probe(A)):
        with pytest.raises(AdapterFailed, match="No replica"):
            await attempt


async def test_some_replicas_hold_an_adapter(fake_replica) -> None:
    """The same ones whoever asks; different adapters lie on different replicas."""
    fleet = Members(*(fake_replica(f"http://10.0.0.{i}") for i in range(10)))
    adapters = ReplicaAdapters(fleet, 2, (1,))
    await adapters.load(A)
    await adapters.load(B)
    held = [{one.name for one in fleet.members if adapter.content in one.adapters} for adapter in (A, B)]
    assert [len(names) for names in held] == [2, 2]
    assert held[0] != held[1]
    assert {one.name for one in adapters.holders(A, fleet.ready)} == held[0]


async def test_a_joining_replica_that_refuses_what_is_served_is_unfit(fake_replica) -> None:
    """It could not answer for the others."""
    adapters = ReplicaAdapters(Members(fake_replica("a")), None, (1,))
    await adapters.load(A)
    with pytest.raises(ReplicaUnfit, match="No"):
        await adapters.bring(Member(fake_replica("c", refuses={"a:sha"})))


@pytest.mark.parametrize("values", [[float("nan")], [-9999.0], [float("-inf")], []])
async def test_an_adapter_that_computes_nonsense_fails_its_probe(fake_replica, monkeypatch, values) -> None:
    """VLLM's server sends a number in place of what is none."""
    fleet = Members(fake_replica("a"))
    adapters = ReplicaAdapters(fleet, None, (1,))
    await adapters.load(A)

    async def generate(request):
        yield TokenPart((1,), tuple(((1, value),) for value in values), "length")

    monkeypatch.setattr(fleet.members[0].replica, "generate", generate)
    with pytest.raises(AdapterFailed, match="nonsense"), first_error_only():
        await adapters.probe(A)


@pytest.mark.parametrize("error", [RequestRefused("too large"), ReplicaFailed("gone")])
async def test_a_probe_that_is_not_answered_fails(fake_replica, monkeypatch, error) -> None:
    """Nothing is switched to what nobody has tried."""
    fleet = Members(fake_replica("a"))
    adapters = ReplicaAdapters(fleet, None, (1,))
    await adapters.load(A)

    async def generate(request):
        raise error
        yield

    monkeypatch.setattr(fleet.members[0].replica, "generate", generate)
    with pytest.raises(AdapterFailed), first_error_only():
        await adapters.probe(A)


async def test_an_adapter_that_a_replica_lost_is_loaded_again(fake_replica) -> None:
    """Before the branch that needs it."""
    fleet = Members(fake_replica("a"))
    adapters = ReplicaAdapters(fleet, None, (1,))
    await adapters.load(A)
    fleet.members[0].adapters.clear()
    fleet.members[0].replica.adapters.clear()
    await adapters.ensure(fleet.members[0], A)
    assert fleet.members[0].replica.adapters == {"a:sha"}
