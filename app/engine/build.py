"""Builds the engine that the settings ask for, fitted to this machine."""

import logging
import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adapters.object_store import AdapterCache, ObjectStore
from app.engine import hardware
from app.engine.base import Engine
from app.engine.ray.options import RayOptions, variables
from app.engine.remote.options import FleetOptions
from app.engine.replica import Replica
from app.engine.vllm.options import EngineOptions
from app.engine.weights import int8
from app.engine.weights.conversions import ModelUnavailable
from app.engine.weights.default_model import ensure_default_model
from app.engine.weights.model_folder import check_model
from app.engine.worker.failures import IS_VLLM_SILENT
from app.engine.worker.server_watch import SERVER_PID
from app.logs import configure_logging
from app.settings import DEFAULT_MODEL, ReplicaSettings, Settings

logger = logging.getLogger("ponder")

CPU_BLOCK_SIZE = 32
"""Tokens in a block of the KV cache. vLLM's CPU back end takes 128, with which the short steps of a search are never cached."""

QUIET = {
    IS_VLLM_SILENT: "0",
    "PYTHONWARNINGS": "ignore",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "GLOO_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Variables with which vLLM, torch and transformers keep their warnings to themselves, in all processes."""


def build_engine(settings: Settings) -> Engine:
    """Return an engine that is not started yet: in this process, or on the replicas that the settings name.

    Raises:
        ModelUnavailable: the model cannot be converted, or cannot be served as asked.

    """
    if settings.ray:
        return _on_ray(settings)
    options = _options_of_server(settings)
    # Only now: vLLM reads the environment when it is imported.
    if settings.replicas:
        return _over_replicas(settings, options)
    from app.engine.vllm.engine import VllmEngine  # noqa: PLC0415

    return VllmEngine(options)


def run_replica(settings: ReplicaSettings) -> None:
    """Serve tokens to front ends until a signal ends it. Raises `ModelUnavailable`."""
    options = engine_options(settings)
    from app.engine.vllm.replica_server import run  # noqa: PLC0415 - as above

    run(options, settings, adapter_cache(settings))


def adapter_cache(settings: ReplicaSettings) -> AdapterCache | None:
    """Return where a replica finds adapters that it is told URLs of; None where it is told paths."""
    if settings.adapter_store_url is None:
        return None
    return AdapterCache(ObjectStore(settings.adapter_store_url), settings.cache_dir.expanduser() / "adapters")


async def started_replica(name: str, settings: Mapping[str, Any]) -> Replica:
    """Return a replica with an engine in this process, which has been started. Raises `ModelUnavailable`.

    Args:
        name: of the replica.
        settings: as `Settings.of_replica` returns them.

    """
    of_replica = ReplicaSettings(**settings)
    configure_logging(of_replica.log_level, of_replica.log_format)
    options = engine_options(of_replica)
    from app.engine.vllm.engine import VllmEngine  # noqa: PLC0415 - as above
    from app.engine.vllm.own_replica import VllmReplica, on_one_machine  # noqa: PLC0415

    engine = VllmEngine(on_one_machine(options))
    await engine.start()
    return VllmReplica(name, engine, adapter_cache(of_replica))


def _options_of_server(settings: Settings) -> EngineOptions:
    options = engine_options(settings, has_weights=not settings.replicas and not settings.ray)
    return replace(options, max_tokens=settings.max_tokens, default_max_tokens=settings.default_max_tokens)


def engine_options(settings: Settings | ReplicaSettings, *, has_weights: bool = True) -> EngineOptions:
    """Return the options of the engine, fitted to this machine. Without weights, it has none converted to int8.

    This sets environment variables of the process, since vLLM reads its environment when it is imported and its processes inherit
    it. The embedded model, and int8 weights, are converted here when they are not there yet. Raises `ModelUnavailable`.
    """
    is_cpu = not hardware.has_nvidia_gpu()
    dtype: str = settings.dtype
    if is_cpu:
        plan = hardware.plan_cpu()
        os.environ.update(plan.environment())
        dtype = plan.dtype if dtype == "auto" else dtype
        logger.info(plan.describe())
    os.environ[SERVER_PID] = str(os.getpid())
    set_log_of_vllm(settings)
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output belongs to the program that uses ponder
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_MAX_STOP_STRINGS", "64")  # `app.api.sampling` has the limit; vLLM's own is 4
    model, quantization = _weights(settings, dtype, is_cpu=is_cpu, has_weights=has_weights)
    logger.info("loading vLLM and %s", settings.name)
    return EngineOptions(
        model=model,
        name=settings.name,
        dtype=dtype,
        max_model_len=settings.max_model_len,
        max_branches=settings.max_branches,
        block_size=settings.block_size or (CPU_BLOCK_SIZE if is_cpu else None),
        kv_cache_gib=settings.kv_cache_gib,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        quantization=quantization,
        enforce_eager=is_cpu if settings.enforce_eager is None else settings.enforce_eager,
        chat_template=_chat_template(settings.chat_template),
        tool_call_parser=settings.tool_call_parser,
        tool_strict_level=settings.tool_strict_level,
        reasoning_parser=settings.reasoning_parser,
        max_images=settings.max_images,
        adapter_slots=settings.adapter_slots,
        max_adapter_rank=settings.max_adapter_rank,
        engine_args=settings.engine_args,
        is_cpu=is_cpu,
    )


def _over_replicas(settings: Settings, options: EngineOptions) -> Engine:
    """Return an engine whose tokens other servers generate."""
    from app.engine.remote.engine import RemoteEngine  # noqa: PLC0415
    from app.engine.remote.vllm_server import VllmServer  # noqa: PLC0415

    key = None if settings.replica_api_key is None else settings.replica_api_key.get_secret_value()
    names = (settings.name, settings.model, options.model)
    return RemoteEngine(options, _fleet_options(settings), lambda url: VllmServer(url, names, key))


def _fleet_options(settings: Settings) -> FleetOptions:
    return FleetOptions(
        urls=settings.replicas,
        max_branches=settings.max_branches,
        adapter_replicas=settings.adapter_replicas,
        adapter_store_url=settings.adapter_store_url,
    )


def _on_ray(settings: Settings) -> Engine:
    """Return an engine over replicas that Ray Serve is to run. Ray is started here, or joined."""
    is_own = not os.environ.get("RAY_ADDRESS")
    for variable, value in variables(is_own=is_own).items():
        os.environ.setdefault(variable, value)
    from app.engine.ray import cluster  # noqa: PLC0415 - comes with an extra

    # Before the options: they put libraries for vLLM into the environment, which Ray's processes would inherit.
    own_cpus = max(hardware.num_processors(), _most_replicas(settings) * (settings.ray_cpus or 1)) if is_own else None
    cluster.start_ray(own_cpus, is_verbose=settings.log_level == "debug")
    name = f"ponder-{settings.name}"
    backing = cluster.deployed(name, engines_on_ray(settings), is_own=is_own)
    return over_deployment(settings, partial(cluster.handle_of, name), backing)


def engines_on_ray(settings: Settings) -> Any:
    """Return the replicas as an application of Ray Serve, for the cluster that has been joined."""
    from app.engine.ray import cluster, deployment  # noqa: PLC0415 - as above

    num_gpus = settings.ray_gpus
    if num_gpus is None:
        num_gpus = _num_ranks(settings) if cluster.has_gpus() else 0
    most = _most_replicas(settings)
    options = RayOptions(
        min_replicas=settings.ray_replicas,
        max_replicas=most,
        target_branches=settings.ray_target_branches or math.ceil(settings.max_branches / 2),
        idle_seconds=settings.ray_idle_seconds,
        drain_seconds=settings.drain_seconds,
        num_cpus=settings.ray_cpus or (1 if num_gpus else max(hardware.num_processors() // most, 1)),
        num_gpus=num_gpus,
    )
    return deployment.engines(partial(started_replica, settings=settings.of_replica), options)


def _most_replicas(settings: Settings) -> int:
    return max(settings.ray_max_replicas or 0, settings.ray_replicas)


def _num_ranks(settings: Settings) -> int:
    from app.engine.vllm.engine_args import parse_engine_args  # noqa: PLC0415 - as above

    given = parse_engine_args(settings.engine_args)
    return math.prod(given.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline", "data"))


def over_deployment(
    settings: Settings, engines: Callable[[], Any], backing: AbstractAsyncContextManager[None] | None = None
) -> Engine:
    """Return an engine over replicas that Ray Serve runs.

    Args:
        settings: of the server.
        engines: returns the deployment of the replicas.
        backing: runs it, as long as this engine; None where others run it.

    """
    options = _options_of_server(settings)
    from app.engine.ray.cluster import replicas_of  # noqa: PLC0415 - as above
    from app.engine.ray.discovery import RayDiscovery  # noqa: PLC0415
    from app.engine.remote.engine import RemoteEngine  # noqa: PLC0415

    found = RayDiscovery(replicas_of(engines))
    return RemoteEngine(options, _fleet_options(settings), found.connect, found, backing)


def set_log_of_vllm(settings: Settings | ReplicaSettings) -> None:
    """Let vLLM and its libraries write all that they have to say, or, above the level "debug", only what the server does not tell.

    What the operator set of vLLM's log holds.
    """
    if settings.log_level == "debug":
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "DEBUG")
        return
    if "VLLM_LOGGING_LEVEL" in os.environ or "VLLM_LOGGING_CONFIG_PATH" in os.environ:
        return
    if any(word.startswith(("--logging-config", "--log-config-file")) for word in settings.engine_args):
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _weights(settings: Settings | ReplicaSettings, dtype: str, *, is_cpu: bool, has_weights: bool) -> tuple[str, str | None]:
    """Return the model that vLLM is to load, a folder or a name on the hub, and the quantization that it must be told of."""
    model = settings.model
    if model == DEFAULT_MODEL:
        model = str(ensure_default_model(settings.cache_dir.expanduser(), logger.info))
    check_model(model)
    if Path(model).is_dir():
        # transformers asks the hub for files that a folder lacks, which delays the start and fails without a network.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not has_weights:
        return model, None
    if settings.quantization != int8.NAME:
        return model, settings.quantization
    if is_cpu:
        int8.check_processor(has_amx=hardware.has_amx(), dtype=dtype, adapter_slots=settings.adapter_slots)
    folder = int8.ensure_int8(Path(model), settings.cache_dir.expanduser(), logger.info)
    return str(folder), None  # the config.json in the folder names its quantization


def _chat_template(path: Path | None) -> str | None:
    """Return the text of a chat template, None for the model's own. Raises `ModelUnavailable` for a file that cannot be read."""
    try:
        return None if path is None else path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelUnavailable(f"the chat template {path} cannot be read: {error}") from error
