"""Adapters of several front ends: what one is told, all serve, whatever happens to the store meanwhile."""

import asyncio
import random
import time
from contextlib import AsyncExitStack

import pytest

from adapters import registry
from adapters.weights import BaseModel
from app.engine.scripted import SMALL
from app.shared import front_ends, state
from tests import peft_folder
from tests.shared.waiting import follows, until
from tests.valkey import Valkey

pytestmark = pytest.mark.anyio

BASE = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def push(tmp_path):
    """`push(front_end, name, seed)`: upload an adapter whose content depends on the seed; return the reply."""

    async def pushed(served, name: str, seed: int, **data: str):
        folder = tmp_path / "made" / str(seed)
        if not folder.exists():
            peft_folder.write(folder, BASE, seed=seed)
        files = [("files", (file, (folder / file).read_bytes())) for file in FILES]
        return await served.client.post("/v1/adapters", data={"name": name, **data}, files=files)

    return pushed


async def version_of(served, name: str) -> str | None:
    """Return the version that answers under a name, None where there is no such model."""
    reply = await served.chat(model=name)
    return reply.headers["x-ponder-adapter"] if reply.status_code == 200 else None


def versions_of(served, name: str) -> list[str]:
    """Return the versions that a front end knows of a name."""
    return [version for one in served.app.state.pools.first.adapters.adapters() if one.name == name for version in one.versions]


async def shown(served, name: str) -> dict:
    return (await served.client.get(f"/v1/adapters/{name}")).json()


def serves(served, name: str, version: str | None):
    """Return what `until` waits for: the name stands for this version, in full or as name:sha8."""

    async def holds() -> bool:
        wanted = version and f"{name}:{version[:8]}"
        return await version_of(served, name) == wanted

    return holds


async def test_what_one_is_told_all_serve_at_once(front_end, valkey, push) -> None:
    """An upload, an activation, a deactivation and a deletion; each well within a second."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        one, two = [(await push(a, "sums", seed)).json()["version"] for seed in (1, 2)]
        await follows(b, serves(b, "sums", two))
        assert (await b.client.post("/v1/adapters/sums/activate", json={"version": one})).status_code == 200
        await follows(a, serves(a, "sums", one))
        await a.client.post("/v1/unload_lora_adapter", json={"lora_name": "sums"})
        await follows(b, serves(b, "sums", None))
        await b.client.post("/v1/adapters/sums/activate", json={"version": two})
        await follows(a, serves(a, "sums", two))
        assert (await a.client.delete("/v1/adapters/sums")).status_code == 200
        assert (await shown(b, "sums"))["error"]["code"] == "model_not_found"


async def test_a_version_that_is_not_active_is_known_everywhere(front_end, valkey, push) -> None:
    """It can be pinned, and deleted."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        one = (await push(a, "sums", 1)).json()["version"]
        two = (await push(a, "sums", 2, activate="false")).json()["version"]
        await follows(b, serves(b, "sums", one))
        await until(lambda: len(versions_of(b, "sums")) == 2)
        assert await version_of(b, f"sums:{two[:8]}") == f"sums:{two[:8]}"
        await b.client.delete(f"/v1/adapters/sums:{two[:8]}")
        await until(lambda: versions_of(a, "sums") == [one])


async def test_front_ends_without_a_common_folder(front_end, valkey, push, tmp_path) -> None:
    """They have a store behind a URL: a version is served by all, may be pinned, and is deleted there too."""
    store = {"adapter_store_url": f"file://{tmp_path}/objects"}
    async with (
        front_end("a", valkey.url, adapter_dir=tmp_path / "adapters-a", **store) as a,
        front_end("b", valkey.url, adapter_dir=tmp_path / "adapters-b", **store) as b,
    ):
        one = (await push(a, "sums", 1)).json()["version"]
        await follows(b, serves(b, "sums", one))
        two = (await push(b, "sums", 2, activate="false")).json()["version"]
        await until(lambda: len(versions_of(a, "sums")) == 2)
        assert await version_of(a, f"sums:{two[:8]}") == f"sums:{two[:8]}"
        assert (tmp_path / "objects" / "sums" / two / "manifest.json").is_file()
        await a.client.delete("/v1/adapters/sums")
        await until(lambda: versions_of(b, "sums") == [])
        await until(lambda: not list((tmp_path / "objects").glob("*/*/manifest.json")))


async def test_one_that_was_down_follows_when_it_starts(front_end, valkey, push) -> None:
    """Also a deletion: what lies on disk does not come back."""
    async with front_end("a", valkey.url) as a:
        async with front_end("b", valkey.url) as b:
            one = (await push(a, "sums", 1)).json()["version"]
            await push(a, "words", 2)
            await until(serves(b, "sums", one))
        two = (await push(a, "sums", 3)).json()["version"]
        await a.client.delete("/v1/adapters/words")
        async with front_end("b", valkey.url) as b:
            assert await version_of(b, "sums") == f"sums:{two[:8]}"
            assert await version_of(b, "words") is None


async def test_running_requests_keep_their_version_everywhere(front_end, valkey, push) -> None:
    """A deletion at another front end drains here; the files go when nobody follows the old state any more."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url, ["a b c d e f g h"], seconds_per_token=0.05) as b:
        one = (await push(a, "sums", 1)).json()["version"]
        await until(lambda: b.app.state.pools.first.adapters.adapters() != [])
        await until(lambda: b.app.state.pools.first.adapters.adapter("sums").current is not None)
        running = asyncio.create_task(b.chat(model="sums"))
        await until(lambda: bool(b.engine.running))
        await a.client.delete("/v1/adapters/sums")
        reply = await running
        assert reply.headers["x-ponder-adapter"] == f"sums:{one[:8]}"
        await until(lambda: not b.engine.adapters)


async def test_files_are_removed_by_the_one_that_was_asked(front_end, valkey, push, tmp_path) -> None:
    """A front end that has died holds that up only until it counts as dead."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(front_end("a", valkey.url))
        b = await stack.enter_async_context(front_end("b", valkey.url))
        await push(a, "sums", 1)
        await until(lambda: b.app.state.pools.first.adapters.adapters() != [])
        followed = b.app.state.pools.first.adapters.follow
        gate = asyncio.Event()

        async def slowly(name: str) -> None:
            await gate.wait()
            await followed(name)

        b.app.state.pools.first.shared.adapter_table.follow = slowly
        deleting = asyncio.create_task(a.client.delete("/v1/adapters/sums"))
        await asyncio.sleep(0.5)
        assert list((tmp_path / "adapters" / "sums").iterdir())
        gate.set()
        await deleting
        assert not (tmp_path / "adapters" / "sums").exists()


async def test_what_one_cannot_load_leaves_the_old_version_serving_there(front_end, valkey, push, monkeypatch) -> None:
    """It says so, tries again, and serves the new version as soon as it can."""
    monkeypatch.setattr(front_ends, "COMPARE_S", 0.3)
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        one = (await push(a, "sums", 1)).json()["version"]
        await until(serves(b, "sums", one))
        b.engine.refused.add("load")
        two = (await push(a, "sums", 2)).json()["version"]
        await until(lambda: b.app.state.pools.first.adapters.adapter("sums").awaited == two)
        assert await version_of(a, "sums") == f"sums:{two[:8]}"
        assert await version_of(b, "sums") == f"sums:{one[:8]}"
        assert (await shown(b, "sums"))["awaited"] == two
        assert 'ponder_adapter_behind{adapter="sums"} 1.0' in (await b.client.get("/metrics")).text
        b.engine.refused.clear()
        await until(serves(b, "sums", two))
        assert 'ponder_adapter_behind{adapter="sums"} 0.0' in (await b.client.get("/metrics")).text


async def test_without_the_store_all_serve_on_and_refuse_changes(front_end, valkey, push) -> None:
    """They are ready, and say what is degraded. When the store is back, empty, they restore what they know."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        one, two = [(await push(a, "sums", seed)).json()["version"] for seed in (1, 2)]
        await until(serves(b, "sums", two))
        valkey.kill()
        await until(lambda: not a.app.state.pools.first.shared.is_up and not b.app.state.pools.first.shared.is_up)
        for served in (a, b):
            assert await version_of(served, "sums") == f"sums:{two[:8]}"
            ready = await served.client.get("/ready")
            assert (ready.status_code, ready.json()["status"]) == (200, "ready")
            assert ready.json()["shared_state"] == "lost"
            assert ready.json()["degraded"][0] == "adapters and policies: no changes"
            assert "ponder_shared_state_up 0.0" in (await served.client.get("/metrics")).text
        refused = await a.client.post("/v1/adapters/sums/activate", json={"version": one})
        pushed = await push(b, "words", 3)
        for reply in (refused, pushed):
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shared_state_lost")
            assert int(reply.headers["retry-after"]) > 0
        assert await version_of(a, "sums") == f"sums:{two[:8]}"
        valkey.start()
        await until(lambda: a.app.state.pools.first.shared.is_up and b.app.state.pools.first.shared.is_up)
        assert (await a.client.get("/ready")).json() == {"status": "ready"}
        async with front_end("c", valkey.url) as c:
            assert await version_of(c, "sums") == f"sums:{two[:8]}"
        await a.client.post("/v1/adapters/sums/activate", json={"version": one})
        await until(serves(b, "sums", one))


async def test_a_change_that_one_missed_is_followed_when_the_store_is_back(front_end, durable_valkey, push) -> None:
    """The store loses nothing that it has confirmed, and the front ends none that they know."""
    async with front_end("a", durable_valkey.url) as a, front_end("b", durable_valkey.url) as b:
        versions = []
        for seed in range(1, 5):
            reply = await push(a, "sums", seed)
            versions.append(reply.json()["version"])
            durable_valkey.kill()
            durable_valkey.start()
            await until(lambda: a.app.state.pools.first.shared.is_up)
        await until(serves(b, "sums", versions[-1]))
        await until(lambda: set(versions_of(b, "sums")) == set(versions))


async def test_two_changes_at_once_never_mix(front_end, valkey, push) -> None:
    """One of them counts for all, and the other is refused or comes after it."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        one, two = [(await push(a, "sums", seed)).json()["version"] for seed in (1, 2)]
        await until(lambda: len(b.app.state.pools.first.adapters.adapters()) == 1)
        await until(lambda: len(versions_of(b, "sums")) == 2)
        for _ in range(5):
            replies = await asyncio.gather(
                a.client.post("/v1/adapters/sums/activate", json={"version": one}),
                b.client.post("/v1/adapters/sums/activate", json={"version": two}),
            )
            assert {reply.status_code for reply in replies} <= {200, 409}
            assert 200 in {reply.status_code for reply in replies}

            async def both_agree() -> bool:
                return await version_of(a, "sums") == await version_of(b, "sums")

            await asyncio.sleep(0.3)
            await until(both_agree)


async def test_what_is_in_the_store_is_not_trusted(front_end, valkey, push) -> None:
    """Rows that are not well-formed are left out, and the others are followed."""
    import redis

    async with front_end("a", valkey.url) as a:
        one = (await push(a, "sums", 1)).json()["version"]
        with redis.Redis(port=valkey.port) as client:
            for number, text in enumerate(
                [b"", b"\xff", b"[]", b'{"versions": ["../../etc"]}', b'{"current": "' + b"a" * 64 + b'"}']
            ):
                client.zadd("{ponder:1}:adapters:revisions", {f"bad{number}": 4e12 + number})
                client.hset("{ponder:1}:adapters:documents", f"bad{number}", text)
            client.hset("{ponder:1}:beats", "zz", b'{"url": "file:///etc"}')
            client.zadd("{ponder:1}:front-ends", {"zz": 4e15})
        async with front_end("b", valkey.url) as b:
            assert await version_of(b, "sums") == f"sums:{one[:8]}"
            assert [adapter.name for adapter in b.app.state.pools.first.adapters.adapters()] == ["sums"]


async def test_a_store_that_answers_nothing_holds_up_no_request(front_end, valkey, push, monkeypatch) -> None:
    """No request calls the store. One that does not answer counts as lost, until it answers again."""
    async with front_end("a", valkey.url) as a:
        one = (await push(a, "sums", 1)).json()["version"]
        shared, callers = a.app.state.pools.first.shared, set()
        run = shared._store.run

        async def recorded(*arguments: object, **options: object) -> object:
            callers.add(asyncio.current_task().get_coro().__qualname__)
            return await run(*arguments, **options)

        monkeypatch.setattr(shared._store, "run", recorded)
        valkey.pause()
        try:
            assert await version_of(a, "sums") == f"sums:{one[:8]}"
            await until(lambda: not shared.is_up)
            assert await version_of(a, "sums") == f"sums:{one[:8]}"
        finally:
            valkey.go_on()
        await until(lambda: shared.is_up)
        assert callers <= {"FrontEnds._run", "SharedTraces.run", "SharedTable.run"}


async def test_a_start_without_the_store_serves_what_is_on_the_disk(front_end, valkey, push, tmp_path, monkeypatch) -> None:
    """The preload folder is added, and what is on the disk offered to the others, when the store is there."""
    monkeypatch.setattr(state, "START_S", 0.3)
    peft_folder.write(tmp_path / "preload" / "words", BASE, seed=5)
    async with front_end("a", valkey.url) as a:
        one = (await push(a, "sums", 1)).json()["version"]
    valkey.kill()
    async with front_end("b", valkey.url, adapter_preload_dir=tmp_path / "preload") as b:
        assert await version_of(b, "sums") == f"sums:{one[:8]}"
        assert (await b.client.get("/ready")).json()["shared_state"] == "lost"
        assert await version_of(b, "words") is None
        valkey.start()

        async def has_words() -> bool:
            return await version_of(b, "words") is not None

        await until(has_words)
        async with front_end("c", valkey.url) as c:
            assert await version_of(c, "sums") == f"sums:{one[:8]}"
            assert await version_of(c, "words") == await version_of(b, "words")


async def test_front_ends_that_start_together_add_the_same_folder_once(front_end, valkey, tmp_path, monkeypatch) -> None:
    """Each of them serves it, though only one of them could tell the others first."""
    monkeypatch.setattr(registry, "GRACE_S", 0.3)
    monkeypatch.setattr(registry, "FILE_CHECK_S", 0.05)
    for name in ("sums", "words"):
        peft_folder.write(tmp_path / "preload" / name, BASE, seed=len(name))
    async with AsyncExitStack() as stack:
        starting = [front_end(name, valkey.url, adapter_preload_dir=tmp_path / "preload") for name in "abc"]
        started = [asyncio.create_task(one.__aenter__()) for one in starting]
        served = await asyncio.gather(*started)
        for one in starting:
            stack.push_async_exit(one)
        for one in served:
            for name in ("sums", "words"):
                await until(lambda one=one, name=name: len(versions_of(one, name)) == 1)
                version = versions_of(served[0], name)[0]
                await until(serves(one, name, version))
        # Those that were refused remove nothing that another one has come to serve.
        await asyncio.sleep(0.6)
        assert all([await version_of(one, name) for one in served for name in ("sums", "words")])


async def test_what_no_front_end_can_load_is_removed_later(front_end, valkey, push, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(registry, "GRACE_S", 0.0)
    monkeypatch.setattr(registry, "FILE_CHECK_S", 0.05)
    async with front_end("a", valkey.url) as a:
        one = (await push(a, "sums", 1)).json()["version"]
        a.engine.refused.add("load")
        assert (await push(a, "sums", 2)).status_code == 400
        assert (await push(a, "words", 3)).status_code == 400
        await until(
            lambda: [place.name for place in (tmp_path / "adapters").iterdir() if place.name != ".incoming"] == ["sums"]
        )
        await until(lambda: {place.name for place in (tmp_path / "adapters" / "sums").iterdir()} == {one, "current"})


@pytest.mark.parametrize("seed", [0, 9])
@pytest.mark.parametrize("keeps", [False, True], ids=["memory", "disk"])
async def test_no_confirmed_change_is_lost_when_the_store_dies_again_and_again(
    front_end, tmp_path, push, keeps: bool, seed: int
) -> None:
    """It is killed at any moment. In the end all serve the last change that was confirmed, or one that was made after it."""
    options = {"appendonly": "yes", "appendfsync": "always"} if keeps else {}
    store = Valkey(tmp_path / "store", **options)
    store.start()
    chance = random.Random(seed)
    try:
        async with front_end("a", store.url) as a, front_end("b", store.url) as b:
            versions = [(await push(a, "sums", seed)).json()["version"] for seed in range(4)]
            await until(lambda: len(versions_of(b, "sums")) == 4)
            possible = {versions[-1]}

            async def change(served) -> None:
                version = chance.choice(versions)
                reply = await served.client.post("/v1/adapters/sums/activate", json={"version": version})
                assert reply.status_code in (200, 409, 503), reply.text
                if reply.status_code == 200:
                    possible.clear()
                possible.add(version)

            for _ in range(12):
                dying = asyncio.create_task(asyncio.to_thread(lambda: (time.sleep(chance.random() * 0.05), store.kill())))
                await change(chance.choice([a, b]))
                await change(chance.choice([a, b]))
                await dying
                if chance.random() < 0.5:
                    await change(chance.choice([a, b]))
                store.start()
                await until(lambda: a.app.state.pools.first.shared.is_up and b.app.state.pools.first.shared.is_up)

            async def all_agree() -> bool:
                found = {(await shown(one, "sums"))["current"] for one in (a, b)}
                return len(found) == 1 and found <= possible

            await until(all_agree)
            assert {len((await shown(one, "sums"))["versions"]) for one in (a, b)} == {4}
    finally:
        store.kill()


async def test_front_ends_know_what_the_others_hold(front_end, valkey, push) -> None:
    """So that a version leaves an engine which they share with the last of them."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        one = (await push(a, "sums", 1)).json()["version"]
        shared = b.app.state.pools.first.shared
        await until(lambda: shared.is_held_elsewhere(f"sums:{one}"))
        assert not shared.is_held_elsewhere(f"sums:{one[::-1]}")
        await a.client.delete("/v1/adapters/sums")
        await until(lambda: not shared.is_held_elsewhere(f"sums:{one}"))
