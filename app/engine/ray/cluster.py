"""Ray as a server of ponder sees it: started or joined, with the application that runs the replicas."""

import asyncio
import logging
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from app.engine.hardware import has_nvidia_gpu
from app.engine.ray.deployment import ENGINE
from app.engine.ray.replica import Call
from app.engine.replica import ReplicaFailed
from app.engine.weights.conversions import ModelUnavailable

logger = logging.getLogger("ponder.replicas")

FIND_S = 5.0
"""Seconds that Ray Serve may take to tell of its replicas."""

STATUS_S = 0.5
"""Seconds between two looks at an application that is starting."""

OBJECT_STORE_BYTES = 128 * 2**20
"""Of a Ray that is started here, which moves small messages only."""


def start_ray(own_cpus: int | None, *, is_verbose: bool) -> None:
    """Join the Ray of `RAY_ADDRESS`, or start one of this process.

    Call it in the main thread: Ray's processes end with the thread that started them. Raises `ModelUnavailable`.

    Args:
        own_cpus: what a Ray that is started takes for the number of processors; None where one is joined.
        is_verbose: whether to write all that Ray and the replicas have to say.

    """
    own: dict[str, Any] = {
        "address": "local",
        "num_cpus": own_cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    level = logging.INFO if is_verbose else logging.WARNING
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=is_verbose, logging_level=level, **(own if own_cpus else {}))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ModelUnavailable(f"Ray: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own in the place of ours
    logging.getLogger("ray.serve").setLevel(level)


def has_gpus() -> bool:
    """Whether the cluster has GPUs, or this machine where no cluster has been joined yet."""
    return bool(ray.cluster_resources().get("GPU")) if ray.is_initialized() else has_nvidia_gpu()


@asynccontextmanager
async def deployed(name: str, application: serve.Application, *, is_own: bool) -> AsyncIterator[None]:
    """Run an application of replicas for the block, from its first replica on. Raises `ModelUnavailable`.

    Args:
        name: of the application.
        application: as `engines` returns it.
        is_own: whether this process has started Ray, and is to stop it.

    """
    try:
        await asyncio.to_thread(serve.start, proxy_location="Disabled")
        target = serve.RunTarget(application, name=name, route_prefix=None)
        await asyncio.to_thread(serve.run_many, [target], wait_for_applications_running=False)
        await _started(name)
        yield
    finally:
        await asyncio.to_thread(_leave, None if is_own else name)


async def _started(name: str) -> None:
    """Wait for an application. Raises `ModelUnavailable` where it does not start."""
    while True:
        found = (await asyncio.to_thread(serve.status)).applications[name]
        if found.status == "RUNNING":
            return
        if found.status in {"DEPLOY_FAILED", "UNHEALTHY"}:
            told = " ".join(one.message for one in found.deployments.values())
            known = re.findall(r"ModelUnavailable: (.*)", told)
            raise ModelUnavailable(known[-1] if known else f"the replicas on Ray do not start: {told[-500:]}")
        await asyncio.sleep(STATUS_S)


def _leave(name: str | None) -> None:
    """Delete an application, if there is a name, and leave Ray. A Ray that this process has started ends."""
    with suppress(RayError, RayServeException):
        if name is not None:
            serve.delete(name)
    ray.shutdown()


def handle_of(application: str) -> DeploymentHandle:
    """Return the deployment of the engines of an application that runs."""
    return serve.get_deployment_handle(ENGINE, application)


def replicas_of(engines: Callable[[], DeploymentHandle]) -> Callable[[], Awaitable[Mapping[str, Call]]]:
    """Return what finds replicas, for `RayDiscovery`.

    Args:
        engines: returns their deployment, at the first look-up.

    """
    handles: list[DeploymentHandle] = []

    async def ask() -> Mapping[str, Call]:
        try:
            if not handles:
                handles.append(await asyncio.to_thread(engines))
            found = await handles[0].broadcast("address").results_async(timeout_s=FIND_S, return_exceptions=True)
        except DeploymentUnavailableError:
            return {}
        except (RayError, RayServeException, TimeoutError) as error:
            raise ReplicaFailed(f"{type(error).__name__}: {error}"[:200]) from None
        return {f"ray:{name}": _call_of(actor) for name, actor in (one for one in found if isinstance(one, tuple))}

    return ask


def _call_of(actor: Any) -> Call:
    async def call(method: str, data: bytes) -> bytes:
        try:
            answer: bytes = await actor.answer.remote(method, data)
        except RayError as error:
            raise ReplicaFailed(type(error).__name__) from None
        return answer

    return call
