"""Names, leases and swaps over a fake engine: a running request keeps its version, and a failed change changes nothing."""

import asyncio
import shutil
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import registry as registry_module
from adapters.errors import AdapterConflict, AdapterFailed, AdapterLost, AdapterRefused, NoSlot, UnknownAdapter
from adapters.leases import State
from adapters.names import AdapterRef

pytestmark = pytest.mark.anyio

A, B, C = AdapterRef("a"), AdapterRef("b"), AdapterRef("c")


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_lease_holds_the_version_that_was_current(world) -> None:
    """The name is switched at once. The old version leaves the engine when its last lease ends."""
    async with world() as w:
        one = await w.add("a", 1)
        async with w.registry.lease([A]) as (old,):
            two = await w.add("a", 2)
            async with w.registry.lease([A]) as (new,):
                assert (old.version, new.version) == (one, two)
                assert old.cache_salt != new.cache_salt
                assert set(w.host.held) == {old.adapter.id, new.adapter.id}
        await settle()
        assert list(w.host.held) == [new.adapter.id]
        assert w.registry.loaded_version(one) is None


async def test_engine_side_names_and_ids_are_never_used_twice(world) -> None:
    """This holds also when the same content is added again."""
    async with world() as w:
        one, two = await w.add("a", 1), await w.add("a", 2)
        for version in (one, two, one, two):
            await w.registry.activate("a", version.version[:8])
            await settle()
        await w.registry.remove(A)
        await w.add("a", 1)
        assert len({adapter.id for adapter in w.host.loads}) == len(w.host.loads) >= 5
        assert len({adapter.name for adapter in w.host.loads}) == len(w.host.loads)


@pytest.mark.parametrize("step", ["load", "probe"])
async def test_what_fails_before_the_switch_leaves_the_old_version_serving(world, step: str) -> None:
    """Nothing of the new version stays, neither in the engine nor on disk."""
    async with world() as w:
        one = await w.add("a", 1)
        w.host.refuses.add(step)
        with pytest.raises(AdapterFailed):
            await w.add("a", 2)
        with pytest.raises(AdapterFailed):
            await w.add("b", 3)
        w.host.refuses.clear()
        await settle()
        async with w.registry.lease([A]) as (lease,):
            assert lease.version == one
        assert [adapter.name for adapter in w.registry.adapters()] == ["a"]
        assert list(w.registry.adapter("a").versions) == [one.version]
        assert {path.name for path in w.root.iterdir()} == {"a", ".incoming"}
        assert len(w.host.held) == 1


async def test_a_version_can_be_pinned_and_rolled_back(world) -> None:
    """A client pins a version by the beginning of its hash. A roll-back switches the whole name in one call."""
    async with world(slots=3) as w:
        one, two = await w.add("a", 1), await w.add("a", 2)
        async with w.registry.lease([AdapterRef.parse(one.id)]) as (pinned,), w.registry.lease([A]) as (current,):
            assert (pinned.version, current.version) == (one, two)
        await w.registry.activate("a", one.version[:8])
        async with w.registry.lease([A]) as (back,):
            assert back.version == one
        with pytest.raises(UnknownAdapter):
            await w.registry.activate("a", "0" * 8)


async def test_a_roll_back_to_a_version_that_is_still_leaving_keeps_it(world) -> None:
    """It is not loaded again."""
    async with world(slots=3) as w:
        one = await w.add("a", 1)
        async with w.registry.lease([A]):
            await w.add("a", 2)
            await w.registry.activate("a", one.version)
        await settle()
        num_loads = len(w.host.loads)
        assert await _use(w, A) == one
        assert len(w.host.loads) == num_loads == 2


async def test_a_request_that_ends_after_the_shutdown_is_no_error(world) -> None:
    """Its lease ends, and nothing is changed in an engine that is being closed."""
    async with AsyncExitStack() as late:
        async with world() as w:
            await w.add("a", 1)
            await late.enter_async_context(w.registry.lease([A]))
            await w.add("a", 2)
        held = dict(w.host.held)
    assert w.host.held == held


async def test_idle_versions_make_room_least_recently_used_first(world) -> None:
    """They are loaded again when they are needed. A leased version never leaves."""
    async with world(slots=2) as w:
        await w.add("a", 1)
        await w.add("b", 2)
        async with w.registry.lease([A]):
            await w.add("c", 3)
            assert {adapter.name.split(":")[0] for adapter in w.host.held.values()} == {"a", "c"}
        async with w.registry.lease([B]):
            assert {adapter.name.split(":")[0] for adapter in w.host.held.values()} == {"a", "b"}
        assert [event for event in w.observer.events if event[0] == "evicted"] == [("evicted", "b"), ("evicted", "c")]


async def test_when_every_slot_is_leased_a_request_waits_for_a_limited_time(world) -> None:
    """It is refused after the limit, and served when a slot becomes free in time."""
    async with world(slots=1) as w:
        await w.add("a", 1)
        w.registry._slots._max_wait = 0.1
        async with w.registry.lease([A]):
            with pytest.raises(NoSlot) as refusal:
                await w.add("b", 2)
            assert refusal.value.retry_after >= 1
            assert [adapter.name for adapter in w.registry.adapters()] == ["a"]  # the uploaded version is removed again
        w.registry._slots._max_wait = 30
        await w.add("b", 2)
        async with w.registry.lease([B]):
            waiting = asyncio.create_task(_use(w, A))
            await asyncio.sleep(0.02)
            assert not waiting.done()
        assert (await waiting).name == "a"


async def _use(w, *refs: AdapterRef, seconds: float = 0.0):
    async with w.registry.lease(refs) as leases:
        await asyncio.sleep(seconds)
        return leases[0].version


async def test_a_waiter_is_not_starved_by_requests_for_a_loaded_version(world) -> None:
    """With one slot and requests for `a` that overlap all the time, a request for `b` is still served, and `a` after it."""
    async with world(slots=1) as w:
        await w.add("b", 2)
        await w.add("a", 1)
        stop = asyncio.Event()

        async def keep_busy() -> None:
            while not stop.is_set():
                await _use(w, A, seconds=0.01)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(keep_busy())
                await asyncio.sleep(0.004)
            assert (await _use(w, B)).name == "b"
            assert (await _use(w, A)).name == "a"
            stop.set()


async def test_a_name_is_resolved_when_the_lease_is_granted(world) -> None:
    """A request that waited during a swap gets the new version, or an error when the name was removed."""
    async with world(slots=1) as w:
        await w.add("a", 1)
        await w.add("b", 9)
        async with w.registry.lease([B]):
            waiting = [asyncio.create_task(_use(w, A)) for _ in range(3)]
            await settle()
            swap = asyncio.create_task(w.add("a", 2))
            await asyncio.sleep(0.05)
        two = await swap
        assert {version.version for version in [await one for one in waiting]} <= set(w.registry.adapter("a").versions)
        assert await _use(w, A) == two
        async with w.registry.lease([A]):
            waiting = asyncio.create_task(_use(w, B))
            await settle()
            await w.registry.remove(B)
        with pytest.raises(UnknownAdapter):
            await waiting


async def test_several_adapters_are_leased_together(world) -> None:
    """Each is held at one version until the end. A request for more adapters than slots is refused at once."""
    async with world(slots=2) as w:
        for seed, name in enumerate("abc"):
            await w.add(name, seed)
        async with w.registry.lease([A, B]) as leases:
            assert [lease.version.name for lease in leases] == ["a", "b"]
            other = asyncio.create_task(_use(w, B, C))
            await settle()
            assert not other.done()
        assert (await other).name == "b"
        async with w.registry.lease([A, A]) as (first, second):
            assert first.version == second.version
        with pytest.raises(AdapterRefused):
            await _use(w, A, B, C)


async def test_requests_for_the_same_adapters_in_another_order_do_not_deadlock(world) -> None:
    """A request takes all of its versions or none, so that many requests over three adapters and two slots are all served."""
    async with world(slots=2) as w:
        for seed, name in enumerate("abc"):
            await w.add(name, seed)
        pairs = [(A, B), (B, A), (B, C), (C, B), (C, A), (A, C), (A,), (B,), (C,)] * 4
        done = await asyncio.gather(*(_use(w, *pair, seconds=0.002) for pair in pairs))
        assert len(done) == len(pairs)
        assert all(one.leases == 0 for one in w.registry.loaded_versions())


async def test_a_cancelled_wait_leaves_nothing(world) -> None:
    """Neither a waiter nor a lease stays, whenever the cancellation comes."""
    async with world(slots=1) as w:
        await w.add("a", 1)
        await w.add("b", 2)
        for yields in range(12):
            waiting = asyncio.create_task(_use(w, A, seconds=1))
            for _ in range(yields):
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await settle()
            assert all(one.leases == 0 for one in w.registry.loaded_versions())
            assert (await _use(w, B)).name == "b"


async def test_deletion_lets_requests_end(world) -> None:
    """The name is removed at once, on disk too. A running request keeps its version in the engine until it ends."""
    async with world() as w:
        await w.add("a", 1)
        async with w.registry.lease([A]) as (lease,):
            await w.registry.remove(A)
            assert not (w.root / "a").exists()
            with pytest.raises(UnknownAdapter):
                await _use(w, A)
            await settle()
            assert lease.adapter.id in w.host.held
        await settle()
        assert not w.host.held
        assert ("removed", "a") in w.observer.events


async def test_one_version_can_be_deleted_but_not_the_one_that_is_served(world) -> None:
    """All other versions are kept."""
    async with world() as w:
        one, two = await w.add("a", 1), await w.add("a", 2)
        with pytest.raises(AdapterConflict):
            await w.registry.remove(AdapterRef.parse(two.id))
        await w.registry.remove(AdapterRef.parse(one.id))
        assert list(w.registry.adapter("a").versions) == [two.version]


async def test_unloading_keeps_the_versions(world) -> None:
    """The name is not served any more, and can be activated again."""
    async with world() as w:
        one = await w.add("a", 1)
        await w.registry.deactivate("a")
        await settle()
        assert not w.host.held
        with pytest.raises(UnknownAdapter):
            await _use(w, A)
        with pytest.raises(UnknownAdapter):
            await w.registry.deactivate("a")
        await w.registry.activate("a", one.version)
        assert await _use(w, A) == one


async def test_a_restart_serves_what_was_served_before(world) -> None:
    """Names, versions and roll-backs are the same, and versions are loaded before the first request."""
    async with world() as w:
        one, _ = await w.add("a", 1), await w.add("a", 2)
        await w.registry.activate("a", one.version)
        await w.add("b", 3)
        await w.registry.deactivate("b")
    async with world() as w:
        assert [adapter.name.split("#")[0] for adapter in w.host.held.values()] == [one.id]
        assert await _use(w, A) == one
        with pytest.raises(UnknownAdapter):
            await _use(w, B)
        assert len(w.registry.adapter("a").versions) == 2


async def test_a_removed_folder_makes_only_its_own_version_unusable(world, monkeypatch, tmp_path) -> None:
    """New requests for it get an error, running ones go on. It is usable again when the files, or the same content, come back."""
    monkeypatch.setattr(registry_module, "FILE_CHECK_S", 0.02)
    async with world() as w:
        one = await w.add("a", 1)
        await w.add("b", 2)
        async with w.registry.lease([A]) as (lease,):
            shutil.move(w.root / "a", tmp_path / "kept")
            await asyncio.sleep(0.1)
            with pytest.raises(AdapterLost, match="gone"):
                await _use(w, A)
            assert lease.adapter.id in w.host.held
            assert (await _use(w, B)).name == "b"
        await settle()
        assert lease.adapter.id not in w.host.held
        shutil.copytree(tmp_path / "kept", w.root / "a")
        await asyncio.sleep(0.1)
        assert await _use(w, A) == one
        shutil.rmtree(w.root / "a")
        await asyncio.sleep(0.1)
        assert await w.add("a", 1) == one
        assert await _use(w, A) == one


async def test_changed_files_never_reach_the_engine(world) -> None:
    """The hash of the content is checked each time before a version is loaded."""
    async with world(slots=1) as w:
        one = await w.add("a", 1)
        await w.add("b", 2)
        weights = w.root / "a" / one.version / "adapter_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        num_loads = len(w.host.loads)
        with pytest.raises(AdapterLost, match="changed"):
            await _use(w, A)
        assert len(w.host.loads) == num_loads
        assert (await _use(w, B)).name == "b"


async def test_the_same_content_again_changes_nothing(world) -> None:
    """It is neither loaded nor probed again, nor counted as a swap."""
    async with world() as w:
        one = await w.add("a", 1)
        again, is_new = await w.registry.add("a", w.files(1), source="again")
        assert (again, is_new) == (one, False)
        assert w.observer.events.count(("swapped", "a")) == 1
        assert len(w.host.loads) == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "a b", "ä", "a:b", "a@b", "x" * 65, "a\0", "scripted"]
)
async def test_names_that_no_adapter_can_have(world, name: str) -> None:
    """They lead out of the store, have another meaning in a request, or are reserved."""
    async with world() as w:
        with pytest.raises(AdapterRefused) as refusal:
            await w.add(name, 1)
        assert refusal.value.parameter == "name"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    slots=st.integers(1, 3),
    moves=st.lists(
        st.tuples(st.sampled_from(["lease", "swap", "end", "cancel", "unload"]), st.sampled_from("abc"), st.integers(0, 2)),
        max_size=25,
    ),
)
async def test_the_engine_always_holds_what_is_leased_and_never_more_than_its_slots(world, slots: int, moves) -> None:
    """Leases, swaps, ends of requests, cancellations and unloading in any order."""
    async with world(slots=slots) as w, AsyncExitStack() as stack:
        for seed, name in enumerate("abc"):
            await w.add(name, seed)
        w.registry._slots._max_wait = 0.02
        held: list[tuple[AsyncExitStack, object]] = []
        for move, name, seed in moves:
            try:
                if move == "lease":
                    mine = await stack.enter_async_context(AsyncExitStack())
                    (lease,) = await mine.enter_async_context(w.registry.lease([AdapterRef(name)]))
                    held.append((mine, lease))
                elif move == "swap":
                    await w.add(name, 10 * (1 + "abc".index(name)) + seed)
                elif move == "end" and held:
                    await held.pop(seed % len(held))[0].aclose()
                elif move == "cancel":
                    task = asyncio.create_task(_use(w, AdapterRef(name)))
                    await asyncio.sleep(0)
                    task.cancel()
                elif move == "unload":
                    await w.registry.deactivate(name)
            except (NoSlot, UnknownAdapter):
                pass
            assert all(lease.adapter.id in w.host.held for _, lease in held)
            assert len(w.host.held) <= slots
        await stack.aclose()
        await settle()
        async with asyncio.timeout(30):  # a load that a cancelled request began is finished first
            while any(one.state is not State.READY for one in w.registry.loaded_versions()):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.002)
        loaded = w.registry.loaded_versions()
        assert {one.adapter.id for one in loaded} == set(w.host.held)
        assert all(one.leases == 0 and one.state is State.READY for one in loaded)
