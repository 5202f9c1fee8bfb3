"""Policies of several front ends, each of which keeps its own folder."""

import asyncio

import pytest
import redis

from app.shared import front_ends
from tests.example_policies import policy
from tests.shared.waiting import follows, until

pytestmark = pytest.mark.anyio

PATH = "/v1/policies/scripted"


def text(hard: float) -> str:
    return policy(model="scripted", hard=hard).model_dump_json()


async def shown(served) -> dict:
    return (await served.client.get(PATH)).json()


def has(served, current: int | None, *numbers: int):
    """Return what `until` waits for."""

    async def holds() -> bool:
        reply = await shown(served)
        return (reply.get("current"), tuple(reply.get("numbers", ()))) == (current, numbers)

    return holds


async def test_what_one_is_told_all_use(front_end, valkey) -> None:
    """An upload, a roll-back, and the choice of none; each well within a second."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        assert (await a.client.put(PATH, content=text(0.1))).status_code == 200
        await follows(b, has(b, 1, 1))
        assert (await b.client.put(PATH, content=text(0.7))).json()["numbers"] == [1, 2]
        await follows(a, has(a, 2, 1, 2))
        assert (await shown(a))["policy"] == (await shown(b))["policy"]
        await a.client.post(f"{PATH}/choose", json={"number": 1})
        await follows(b, has(b, 1, 1, 2))
        await b.client.post(f"{PATH}/choose", json={"number": None})
        await follows(a, has(a, None, 1, 2))


async def test_one_that_was_down_has_all_earlier_policies_too(front_end, valkey) -> None:
    async with front_end("a", valkey.url) as a:
        for hard in (0.1, 0.3, 0.7):
            await a.client.put(PATH, content=text(hard))
        await a.client.post(f"{PATH}/choose", json={"number": 2})
        async with front_end("b", valkey.url) as b:
            assert await has(b, 2, 1, 2, 3)()
            assert (await b.client.post(f"{PATH}/choose", json={"number": 1})).status_code == 200
        await until(has(a, 1, 1, 2, 3))
        assert (await shown(a))["policy"] == policy(model="scripted", hard=0.1).model_dump(mode="json")


async def test_an_emptied_store_gets_all_policies_back(front_end, valkey) -> None:
    """While it is away, a change is refused, and the policy stays in use."""
    async with front_end("a", valkey.url) as a:
        for hard in (0.1, 0.7):
            await a.client.put(PATH, content=text(hard))
        valkey.kill()
        refused = [
            await a.client.put(PATH, content=text(0.5)),
            await a.client.post(f"{PATH}/choose", json={"number": 1}),
        ]
        assert {(reply.status_code, reply.json()["error"]["code"]) for reply in refused} == {(503, "shared_state_lost")}
        assert await has(a, 2, 1, 2)()
        valkey.start()
        await until(lambda: a.app.state.pools.first.shared.is_up)
        async with front_end("b", valkey.url) as b:
            await until(has(b, 2, 1, 2))


async def test_two_uploads_at_once_never_mix(front_end, valkey) -> None:
    """Each is one number with one text, or is refused."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        counted = 0
        for _ in range(5):
            replies = await asyncio.gather(*(one.client.put(PATH, content=text(hard)) for one, hard in ((a, 0.1), (b, 0.7))))
            assert {reply.status_code for reply in replies} <= {200, 409}
            counted += sum(reply.status_code == 200 for reply in replies)
            await until(has(a, counted, *range(1, counted + 1)))
            await until(has(b, counted, *range(1, counted + 1)))
            assert (await shown(a))["policy"] == (await shown(b))["policy"]
        assert counted >= 5


async def test_a_text_that_is_not_what_its_hash_says_is_not_used(front_end, valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy before it stays in use."""
    monkeypatch.setattr(front_ends, "COMPARE_S", 0.2)
    async with front_end("a", valkey.url) as a:
        await a.client.put(PATH, content=text(0.1))
        async with front_end("b", valkey.url) as b:
            await until(has(b, 1, 1))
        with redis.Redis(port=valkey.port) as client:
            key = "{ponder:1}:policy-texts:scripted"
            await a.client.put(PATH, content=text(0.7))
            for field, value in client.hgetall(key).items():
                client.hset(key, field, value.replace(b"0.7", b"0.2"))
        async with front_end("b", valkey.url) as b:
            await asyncio.sleep(0.5)
            assert await has(b, 1, 1)()
