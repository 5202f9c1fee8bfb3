"""The quota of a key holds for all front ends together."""

import asyncio
import json
import time

import pytest
import redis
from fastapi.security import HTTPAuthorizationCredentials

from app.admission import Admission
from app.errors import QuotaExceeded
from app.request import Caller
from app.shared import front_ends
from tests.shared.waiting import until

pytestmark = pytest.mark.anyio

LONG = ["word " * 100]
KEYS = {"api_keys": "one,two", "max_branches_per_key": 4, "max_branches": 64}


def held(served) -> int:
    return served.app.state.pools.first.admission.num_admitted


def elsewhere(served) -> int:
    """Return the branches at other front ends of the key that `served` has counted most of."""
    others = served.app.state.pools.first.shared.front_ends.others().values()
    return max((count for other in others for count in other.branches.values()), default=0)


async def ask(served, key: str, n: int) -> int:
    """Return the status of a vote with `n` branches."""
    served.client.headers["Authorization"] = f"Bearer {key}"
    return (await served.chat(ponder={"strategy": "self_consistency", "n": n, "answer": "text"}, max_tokens=60)).status_code


async def ended(running: asyncio.Task[int]) -> None:
    """The client of a request leaves."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_branches_of_one_key_are_counted_over_all(front_end, valkey) -> None:
    """Each key for itself, and only while the branches run."""
    async with (
        front_end("a", valkey.url, LONG, seconds_per_token=10, **KEYS) as a,
        front_end("b", valkey.url, LONG, **KEYS) as b,
    ):
        running = asyncio.create_task(ask(a, "one", 3))
        await until(lambda: elsewhere(b) == 3)
        assert await ask(b, "one", 2) == 429
        assert await ask(b, "two", 2) == 200
        assert await ask(b, "one", 1) == 200
        await ended(running)
        await until(lambda: elsewhere(b) == 0)
        assert await ask(b, "one", 4) == 200


async def test_what_a_dead_front_end_ran_is_forgotten(front_end, valkey) -> None:
    async with front_end("b", valkey.url, **KEYS) as b:
        assert await ask(b, "one", 1) == 200
        owner = b.app.state.access.caller(HTTPAuthorizationCredentials(scheme="Bearer", credentials="one")).owner
        with redis.Redis(port=valkey.port) as client:
            beat = {"url": "http://127.0.0.1:1", "branches": {owner: 4}}
            client.hset("{ponder:1}:beats", "dead", json.dumps(beat))
            client.zadd("{ponder:1}:front-ends", {"dead": time.time() * 1000 + 5000})
        await until(lambda: elsewhere(b) == 4)
        assert await ask(b, "one", 1) == 429
        await until(lambda: elsewhere(b) == 0)
        assert await ask(b, "one", 4) == 200


async def test_without_the_store_the_quota_holds_at_each(front_end, valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_ends, "LIFE_S", 0.5)
    async with (
        front_end("a", valkey.url, LONG, seconds_per_token=10, **KEYS) as a,
        front_end("b", valkey.url, LONG, **KEYS) as b,
    ):
        running = asyncio.create_task(ask(a, "one", 4))
        await until(lambda: elsewhere(b) == 4)
        valkey.kill()
        await until(lambda: elsewhere(b) == 0)
        assert held(a) == 4
        assert await ask(b, "one", 4) == 200
        await ended(running)


async def test_admission_asks_nobody_and_counts_by_owner() -> None:
    """What others have admitted is added for the owner of the key alone."""
    others = {"o": 3}
    gates = Admission(num_slots=8, max_branches=32, max_branches_per_key=4, elsewhere=lambda owner: others.get(owner, 0))
    with gates.admit(Caller("k", owner="o"), 1):
        assert dict(gates.branches_by_owner) == {"o": 1}
        with pytest.raises(QuotaExceeded), gates.admit(Caller("k", owner="o"), 1):
            pass
        with gates.admit(Caller("l", owner="p"), 4):
            assert dict(gates.branches_by_owner) == {"o": 1, "p": 4}
    assert not gates.branches_by_owner
