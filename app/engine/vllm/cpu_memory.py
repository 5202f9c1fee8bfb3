"""Gives vLLM's CPU back end its memory, and each of its ranks its processors.

The memory that the server will take is added up, told, and refused where it cannot fit.
"""

import logging
import os
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from vllm import AsyncEngineArgs

from app.engine.hardware import cpu_shares
from app.engine.memory import GIB, plan_memory
from app.engine.vllm.options import EngineOptions

logger = logging.getLogger("ponder")

KV_CACHE_GIB = "VLLM_CPU_KVCACHE_SPACE"
"""vLLM's variable for the KV cache of one rank, in whole GiB. It wins over its option `--kv-cache-memory-bytes`."""


def reserve_memory(options: EngineOptions, arguments: AsyncEngineArgs) -> None:
    """Set the size of the KV cache in the environment, and log the sum of memory. Raises `ModelUnavailable` when it cannot fit."""
    ranks = local_ranks(arguments)
    cache = arguments.kv_cache_memory_bytes if options.kv_cache_gib is None else options.kv_cache_gib * GIB
    plan = plan_memory(
        _folder(options.model, arguments.revision),
        dtype=options.dtype,
        kv_cache=cache,
        adapter_slots=options.adapter_slots,
        adapter_rank=arguments.max_lora_rank,
        max_branches=options.max_branches,
        ranks=ranks,
        replicas=arguments.data_parallel_size,
    )
    logger.info(plan.describe())
    plan.check()
    if arguments.kv_cache_memory_bytes is not None and options.kv_cache_gib is None:
        os.environ.pop(KV_CACHE_GIB, None)
    else:
        os.environ[KV_CACHE_GIB] = str(plan.kv_cache // ranks // GIB)


def share_processors(arguments: AsyncEngineArgs) -> None:
    """Give each of several ranks an equal share of the processors, in the environment: vLLM's workers read it when they start."""
    if (ranks := local_ranks(arguments)) > 1:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = cpu_shares(ranks)


def local_ranks(arguments: AsyncEngineArgs) -> int:
    """Return the number of ranks on this node."""
    ranks = arguments.tensor_parallel_size * arguments.pipeline_parallel_size * arguments.data_parallel_size
    return max(1, ranks // max(1, arguments.nnodes))


def _folder(model: str, revision: str | None) -> Path | None:
    """Return the folder of a model: its own, or that in the cache of the hub; None for a model that is not here yet."""
    if Path(model).is_dir():
        return Path(model)
    try:
        cached = try_to_load_from_cache(model, "config.json", revision=revision)
    except ValueError:  # no name that a model on the hub can have
        return None
    return Path(cached).parent if isinstance(cached, str) else None
