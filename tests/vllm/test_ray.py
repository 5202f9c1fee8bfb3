"""A front end over replicas that Ray Serve runs: they come with the load, may be killed, and go, and no caller sees any of it."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import psutil
import pytest

from tests.server import Server, ended

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

pytest.importorskip("ray", reason="Ray is not installed (locks/ray.txt)")

MODEL = "smollm2-135m"
OPTIONS = (
    "--ray", "--ray-replicas", "1", "--ray-max-replicas", "2", "--ray-cpus", "1", "--ray-target-branches", "6", "--ray-idle-seconds", "4",
    "--kv-cache-gib", "1", "--max-branches", "32", "--max-model-len", "1024",
)  # fmt: skip


@pytest.fixture(scope="module")
def front_end(tmp_path_factory):
    """A server over one replica at first, on one processor, and two at most. All of Ray ends with it."""
    server = Server(*OPTIONS, log=tmp_path_factory.mktemp("ray") / "log")
    server.wait()
    yield server
    processes = server.descendants()
    assert server.stop() == 0
    assert ended(processes, within=30)


@pytest.fixture
async def http(front_end):
    """A client of the front end."""
    async with httpx.AsyncClient(base_url=front_end.url, timeout=300) as client:
        yield client


TOKENS = 150
"""Of each answer, so that a vote takes seconds."""


async def vote(http: httpx.AsyncClient, number: int) -> dict:
    """The reply to a vote of eight."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"What is {number} + 25? Think step by step."}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "ponder": {"strategy": "self_consistency", "n": 8, "confidence": 1},
    }
    response = await http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def replicas(http: httpx.AsyncClient) -> list[dict]:
    """As operators see them."""
    return (await http.get("/v1/replicas")).json()["data"]


async def until_ready(http: httpx.AsyncClient, number: int, seconds: float = 120) -> None:
    """Wait until so many replicas are ready, and no others are known."""
    deadline = time.monotonic() + seconds
    while [one["state"] for one in await replicas(http)] != ["ready"] * number:
        assert time.monotonic() < deadline, await replicas(http)
        await asyncio.sleep(0.2)


@asynccontextmanager
async def load(http: httpx.AsyncClient, callers: int) -> AsyncIterator[list[dict]]:
    """So many callers for the block, each of whom asks again and again. The replies until then, then all of them."""
    replies: list[dict] = []
    is_over = asyncio.Event()

    async def caller(number: int) -> None:
        while not is_over.is_set():
            replies.append(await vote(http, number + 10 * len(replies)))

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))
        yield replies
        is_over.set()


async def until_busy(http: httpx.AsyncClient) -> None:
    """Wait until all replicas have votes, and generate."""
    async with asyncio.timeout(60):
        while True:
            before = await replicas(http)
            await asyncio.sleep(1.5)  # they are asked for their counts once a second
            after = await replicas(http)
            generated = [
                new["counted"]["generated"] - old["counted"]["generated"] for old, new in zip(before, after, strict=True)
            ]
            if min(generated) > 0 and min(one["branches"] for one in after) >= 8:
                return


def engines(server: Server) -> list[int]:
    """The processes of the engines, the oldest first."""
    found = []
    for pid in server.descendants():
        with suppress(psutil.NoSuchProcess):
            if "EngineActor" in " ".join((one := psutil.Process(pid)).cmdline()):
                found.append(one)
    return [one.pid for one in sorted(found, key=psutil.Process.create_time)]


def check(replies: list[dict]) -> None:
    """That each is whole, and each token counted once."""
    for reply in replies:
        assert [one["tokens"] for one in reply["ponder"]["candidates"]] == [TOKENS] * 8
        assert reply["usage"]["completion_tokens"] == reply["ponder"]["tokens"]["decoded"] == 8 * TOKENS


async def test_a_vote_runs_on_one_replica_with_its_adapters(http) -> None:
    """More branches than Ray Serve lets through by itself."""
    reply = await vote(http, 1)
    check([reply])
    [replica] = await replicas(http)
    assert replica["state"] == "ready"
    assert len(replica["adapters"]) == 2
    assert replica["frees_adapter_slots"]


async def test_replicas_come_with_the_load_may_be_killed_and_go(http, front_end) -> None:
    """From one to two and back under load; one of the two is killed meanwhile. No request fails, and each is whole."""
    async with load(http, callers=4) as replies:
        await until_ready(http, 2)
        adapters = [one["adapters"] for one in await replicas(http)]
        assert adapters[0] == adapters[1] != []
        [oldest, _] = engines(front_end)
        await until_busy(http)
        os.kill(oldest, signal.SIGKILL)
        async with asyncio.timeout(60):
            while not any(reply["ponder"]["branches"]["moved"] for reply in replies):  # noqa: ASYNC110 - of other tasks
                await asyncio.sleep(0.05)
    check(replies)
    moved = [reply["ponder"] for reply in replies if reply["ponder"]["branches"]["moved"]]
    assert all(one["tokens"]["recomputed"] > 0 for one in moved)
    async with load(http, callers=1) as replies:
        await until_ready(http, 1)
    check(replies)
