"""What Ray runs for one replica: an actor with the engine, and a deployment of Ray Serve, which starts, watches and ends it.

Front ends ask the actor itself. A call to a deployment would go through Ray Serve's router, which chooses the replica, and waits without an
error where it finds none.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from app.engine.hardware import share_of_processors
from app.engine.ray.options import RayOptions
from app.engine.ray.scaling import BRANCHES, by_branches
from app.engine.ray.server import ReplicaServer
from app.engine.remote.discovery import LOOK_UP_S
from app.engine.replica import Replica
from app.engine.worker import child_main

ENGINE, FRONT_END = "engine", "front-end"
"""The deployments of an application."""

HEALTH_S = 1.0
"""Seconds between two checks of a replica. After three that fail, Ray Serve replaces it."""

MANY = 100_000
"""Calls that may run at the same time. With Ray Serve's own limit of 5, further calls wait, also those that are to end the first ones."""


Begin = Callable[[str], Awaitable[Replica]]
"""Starts the engine of a replica, by the name of the replica. Ray imports it on the machine of the replica."""


class EngineActor:
    """An engine that answers front ends.

    Args:
        name: of the replica.
        begin: starts it.

    """

    def __init__(self, name: str, begin: Begin) -> None:
        self._name = name
        self._begin = begin

    async def start(self, number: int, num_cpus: int) -> None:
        """Start the engine, on `num_cpus` processors that no replica of another number has; 0 for all. Raises `ModelUnavailable`."""
        if num_cpus:
            os.sched_setaffinity(0, share_of_processors(number, num_cpus))
        sys.modules["__main__"].__spec__ = child_main.__spec__  # what vLLM's processes import first
        self._replica = await self._begin(self._name)
        self._server = ReplicaServer(self._replica)

    async def answer(self, method: str, data: bytes) -> bytes:
        """Return the answer to a call of a front end."""
        return await self._server.answer(method, data)

    async def num_branches(self) -> int:
        """Return the number of branches, running and waiting. Raises `ReplicaFailed` where the engine is dead."""
        load = await self._replica.load()
        return load.running + load.waiting


class EngineDeployment:
    """What Ray Serve sees of an engine.

    Args:
        begin: starts it.
        options: of the application.

    """

    async def __init__(self, begin: Begin, options: RayOptions) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        context = serve.get_replica_context()
        self._name = context.replica_tag
        place = PlacementGroupSchedulingStrategy(get_current_placement_group(), placement_group_bundle_index=0)
        kind = ray.remote(EngineActor).options(
            num_cpus=options.num_cpus, num_gpus=options.num_gpus, scheduling_strategy=place, max_concurrency=MANY
        )
        self._engine = kind.remote(self._name, begin)
        await self._engine.start.remote(context.rank.local_rank, 0 if options.num_gpus else options.num_cpus)

    async def address(self) -> tuple[str, Any]:
        """Return the name of this replica, and the actor that front ends ask."""
        return self._name, self._engine

    async def check_health(self) -> None:
        """Raise where the engine is dead."""
        await self._engine.num_branches.remote()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what the number of replicas depends on."""
        return {BRANCHES: float(await self._engine.num_branches.remote())}

    async def __del__(self) -> None:
        """Let branches end before the replica is stopped: front ends notice within a look-up that it takes no more of them."""
        with suppress(RayError):
            await self._engine.num_branches.remote()  # where the engine is dead, nothing is waited for
            await asyncio.sleep(LOOK_UP_S + HEALTH_S)
            while await self._engine.num_branches.remote():  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(HEALTH_S)


class FrontEnd:
    """An HTTP server of ponder in an application.

    Args:
        build: returns the app, from the deployment of the engines.
        engines: that deployment.

    """

    def __init__(self, build: Callable[[DeploymentHandle], Any], engines: DeploymentHandle) -> None:
        self._build = build
        self._engines = engines

    def __serve_build_asgi_app__(self) -> Any:
        return self._build(self._engines)


def engines(begin: Begin, options: RayOptions) -> serve.Application:
    """Return the replicas as an application: each in a placement group of its own, as many as their branches need."""
    bundle = {"CPU": options.num_cpus, "GPU": options.num_gpus}
    deployment = serve.deployment(
        EngineDeployment,
        name=ENGINE,
        ray_actor_options={"num_cpus": 0},
        placement_group_bundles=[{kind: number for kind, number in bundle.items() if number}],
        placement_group_strategy="STRICT_PACK",
        max_ongoing_requests=MANY,
        health_check_period_s=HEALTH_S,
        graceful_shutdown_timeout_s=LOOK_UP_S + HEALTH_S + options.drain_seconds,
        max_constructor_retry_count=3,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.target_branches,
            "upscale_delay_s": 2,
            "downscale_delay_s": options.idle_seconds,
            "look_back_period_s": options.look_back_seconds,
            "aggregation_function": "max",
            "policy": {"policy_function": by_branches},
        },
    )
    return deployment.bind(begin, options)


def front_ends(build: Callable[[DeploymentHandle], Any], engines: serve.Application) -> serve.Application:
    """Return the whole server as an application. How many front ends it has, the operator says to Ray Serve."""
    deployment = serve.deployment(
        serve.ingress()(FrontEnd), name=FRONT_END, ray_actor_options={"num_cpus": 0}, max_ongoing_requests=MANY
    )
    return deployment.bind(build, engines)
