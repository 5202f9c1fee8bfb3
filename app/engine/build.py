"""The engine that settings ask for, fitted to this machine."""

import logging
import os
from pathlib import Path

from app.engine import hardware
from app.engine.base import Engine
from app.engine.weights import int8
from app.engine.weights.default_model import ensure_default_model
from app.settings import DEFAULT_MODEL, Settings

logger = logging.getLogger("ponder")


def build_engine(settings: Settings) -> Engine:
    """Not started yet. Prepares the environment, which vLLM reads on import; raises `ModelUnavailable`."""
    is_cpu = not hardware.has_nvidia_gpu()
    dtype: str = settings.dtype
    block_size = settings.block_size
    if is_cpu:
        plan = hardware.plan_cpu()
        environment = plan.environment()
        if settings.kv_cache_gib is not None:
            environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
        os.environ.update(environment)
        dtype = plan.dtype if dtype == "auto" else dtype
        block_size = block_size or 32
        logger.info(plan.describe())
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    model = settings.model
    if model == DEFAULT_MODEL:
        model = str(ensure_default_model(settings.cache_dir.expanduser(), logger.info))
    if Path(model).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")

    quantization = settings.quantization
    if quantization == int8.NAME:
        if is_cpu:
            int8.check_processor(has_amx=hardware.has_amx(), dtype=dtype, adapter_slots=settings.adapter_slots)
        model = str(int8.ensure_int8(Path(model), settings.cache_dir.expanduser(), logger.info))
        quantization = None  # the folder says it itself

    logger.info("loading vLLM and %s", settings.name)
    from app.engine.vllm.engine import EngineOptions, VllmEngine  # noqa: PLC0415 - reads the environment on import

    return VllmEngine(
        EngineOptions(
            model=model,
            name=settings.name,
            dtype=dtype,
            max_model_len=settings.max_model_len,
            max_branches=settings.max_branches,
            block_size=block_size,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            quantization=quantization,
            enforce_eager=is_cpu if settings.enforce_eager is None else settings.enforce_eager,
            tool_call_parser=settings.tool_call_parser,
            reasoning_parser=settings.reasoning_parser,
            max_tokens=settings.max_tokens,
            default_max_tokens=settings.default_max_tokens,
            adapter_slots=settings.adapter_slots,
            max_adapter_rank=settings.max_adapter_rank,
            is_cpu=is_cpu,
        )
    )
