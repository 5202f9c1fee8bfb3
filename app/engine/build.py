"""Builds the engine that the settings ask for, fitted to this machine."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from app.engine import hardware
from app.engine.base import Engine
from app.engine.remote.options import FleetOptions
from app.engine.vllm.options import EngineOptions
from app.engine.weights import int8
from app.engine.weights.conversions import ModelUnavailable
from app.engine.weights.default_model import ensure_default_model
from app.engine.weights.model_folder import check_model
from app.engine.worker.failures import IS_VLLM_SILENT
from app.engine.worker.server_watch import SERVER_PID
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
    options = engine_options(settings, has_weights=not settings.replicas)
    options = replace(options, max_tokens=settings.max_tokens, default_max_tokens=settings.default_max_tokens)
    # Only now: vLLM reads the environment when it is imported.
    if settings.replicas:
        return _over_replicas(settings, options)
    from app.engine.vllm.engine import VllmEngine  # noqa: PLC0415

    return VllmEngine(options)


def run_replica(settings: ReplicaSettings) -> None:
    """Serve tokens to front ends until a signal ends it. Raises `ModelUnavailable`."""
    options = engine_options(settings)
    from app.engine.vllm.replica_server import run  # noqa: PLC0415 - as above

    run(options, settings)


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
    fleet = FleetOptions(
        urls=settings.replicas,
        max_branches=settings.max_branches,
        adapter_replicas=settings.adapter_replicas,
    )
    return RemoteEngine(options, fleet, lambda url: VllmServer(url, names, key))


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
