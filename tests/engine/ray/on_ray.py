"""Replicas that a real Ray Serve runs, with an engine without a model: they come, fail and go with their branches.

`test_on_ray.py` runs this file in a process of its own.
"""

import asyncio
import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from app.engine.ray.discovery import RayDiscovery
from app.engine.ray.options import RayOptions, variables
from app.engine.ray.replica import RayReplica
from app.engine.replica import ReplicaFailed, TokenRequest
from tests.engine.ray.fake_engine import begin

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore")]  # Ray has many of its own

OPTIONS = RayOptions(
    min_replicas=1,
    max_replicas=2,
    target_branches=10,
    idle_seconds=4,
    drain_seconds=20,
    num_cpus=1,
    num_gpus=0,
    look_back_seconds=2,
)


@pytest.fixture
def ray_cluster(monkeypatch):
    """The module, on a Ray of this process."""
    for name, value in variables(is_own=True).items():
        monkeypatch.setenv(name, value)
    from app.engine.ray import cluster

    cluster.start_ray(2, is_verbose=False)
    return cluster


class Branches:
    """Branches that run until they have so many tokens, and how they ended."""

    def __init__(self, replica: RayReplica, number: int, tokens: int) -> None:
        requests = [
            TokenRequest(id=f"{replica.name}-{one}", token_ids=(1,), sampling={"max_tokens": tokens}) for one in range(number)
        ]
        self.tasks = [asyncio.create_task(self._tokens(replica, one)) for one in requests]

    @staticmethod
    async def _tokens(replica: RayReplica, request: TokenRequest) -> list[int]:
        return [token async for part in replica.generate(request) for token in part.token_ids]

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    async def results(self) -> list[list[int] | BaseException]:
        return await asyncio.gather(*self.tasks, return_exceptions=True)


async def found(discovery: RayDiscovery, number: int, without: str = "") -> list[str]:
    """The names of the replicas, once there are so many, and none of that name."""
    deadline = time.monotonic() + 60
    while len(names := await discovery.find()) != number or without in names:
        assert time.monotonic() < deadline, names
        await asyncio.sleep(0.1)
    return list(names)


def engines() -> list[psutil.Process]:
    """The processes of the engines, the oldest first."""
    processes = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "EngineActor" in " ".join(one.cmdline()):
                processes.append(one)
    return sorted(processes, key=psutil.Process.create_time)


async def test_replicas_come_fail_and_go(ray_cluster) -> None:
    """One becomes two with the load. One that is killed fails its branches at once, and is replaced. One that goes lets its own end."""
    from app.engine.ray.deployment import engines as application_of

    async with ray_cluster.deployed("test", application_of(begin, OPTIONS), is_own=True):
        discovery = RayDiscovery(ray_cluster.replicas_of(lambda: ray_cluster.handle_of("test")))
        [first] = await found(discovery, 1)
        replica = discovery.connect(first)
        assert (await replica.describe()).model == "m"
        many = Branches(replica, 20, tokens=100_000)
        [second] = [one for one in await found(discovery, 2) if one != first]
        other = discovery.connect(second)
        few = Branches(other, 3, tokens=100)
        assert await few.results() == [list(range(100))] * 3

        os.kill(engines()[0].pid, signal.SIGKILL)
        start = time.monotonic()
        results = await many.results()
        assert time.monotonic() - start < 5
        assert all(isinstance(one, ReplicaFailed) for one in results)
        many = Branches(other, 20, tokens=100_000)
        names = await found(discovery, 2, without=first)
        assert second in names
        await many.leave()

        last = [Branches(discovery.connect(one), 2, tokens=3000) for one in names]
        [left] = await found(discovery, 1)
        assert not all(task.done() for one in last for task in one.tasks)
        for one in last:
            assert await one.results() == [list(range(3000))] * 2
        assert left in names
    deadline = time.monotonic() + 10
    while engines():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
