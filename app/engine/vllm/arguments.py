"""From our options to vLLM's engine arguments."""

import os
from typing import Any

from vllm import AsyncEngineArgs
from vllm.config import StructuredOutputsConfig

from app.engine.architecture import LINEAR_MODULES
from app.engine.vllm import thinking_end
from app.engine.vllm.engine_args import parse_engine_args
from app.engine.vllm.options import EngineOptions
from app.engine.weights.conversions import ModelUnavailable
from app.engine.worker.extension import CpuWorker, GpuWorker
from app.engine.worker.failures import IS_VLLM_SILENT

MAX_RANKS = 65_536
"""The most ranks of one kind of parallelism; far more than anybody has."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256)
"""The values of `max_lora_rank` that vLLM 0.32 accepts."""


def engine_arguments(options: EngineOptions) -> AsyncEngineArgs:
    """Return the arguments for vLLM's engine. Raises `ModelUnavailable` for an option in `engine_args` that cannot be taken."""
    given = parse_engine_args(options.engine_args)
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
        if not 1 <= given.get(name, 1) <= MAX_RANKS:
            raise ModelUnavailable(f"--{name.replace('_', '-')}: {given[name]} is no number of ranks, which is at least 1")
    return AsyncEngineArgs(**{**_own_arguments(options), **given})


def _own_arguments(options: EngineOptions) -> dict[str, Any]:
    return dict(
        model=options.model,
        served_model_name=[options.name],
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        max_num_seqs=options.max_branches,
        # With LoRA, vLLM's CPU back end compiles nothing anyway, and our grouped LoRA needs a model that is not compiled.
        enforce_eager=options.enforce_eager or (options.is_cpu and options.adapter_slots > 0),
        quantization=options.quantization,
        scheduling_policy="priority",
        enable_prefix_caching=True,
        disable_log_stats=False,  # vLLM's own metrics are part of our page
        enable_log_requests=False,
        trust_remote_code=False,
        # With "auto", the first grammar chooses one back end for all requests; later ones are checked by another than compiles them.
        # Without free whitespace: small models write newlines between the tokens of JSON until their answer is cut.
        structured_outputs_config=StructuredOutputsConfig(
            backend="xgrammar",
            disable_any_whitespace=True,
            reasoning_parser=thinking_end.NAME,
            reasoning_parser_plugin=thinking_end.__name__,
        ),
        # Left out rather than given as None, so that vLLM's own defaults hold.
        **_given(block_size=options.block_size, gpu_memory_utilization=options.gpu_memory_utilization),
        **_lora_arguments(options),
        **_media_arguments(options),
        use_tqdm_on_load=os.environ.get(IS_VLLM_SILENT) != "0",
        worker_extension_cls=_path_of(CpuWorker if options.is_cpu else GpuWorker),
    )


def _media_arguments(options: EngineOptions) -> dict[str, Any]:
    return {
        # vLLM gives images another name in some models.
        "limit_mm_per_prompt": {"image": options.max_images, "vision_chunk": options.max_images, "video": 0, "audio": 0},
        # Images are read before (`app.images`), so no URL should come here. If one did, vLLM would open it; this host is none (RFC 2606).
        "allowed_media_domains": ["none.invalid"],
        # vLLM would keep processed images twice. It also has half of a pair of caches here, whose other half in the engine may drop an
        # image while a search still needs it.
        "mm_processor_cache_gb": 0,
    }


def _path_of(kind: type) -> str:
    """Return the path by which vLLM's worker process imports a class; an installed wheel has another than a checkout."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _lora_arguments(options: EngineOptions) -> dict[str, Any]:
    if not options.adapter_slots:
        return {}
    return {
        "enable_lora": True,
        "max_loras": options.adapter_slots,
        # As many copies in memory as slots. Then vLLM never evicts an adapter by itself: when it needed the adapter again, it would
        # read its files again, and would die if they were gone (0.32).
        "max_cpu_loras": options.adapter_slots,
        "max_lora_rank": next(rank for rank in LORA_RANKS if rank >= options.max_adapter_rank),
        # The adapters that the store accepts leave embeddings and the LM head alone. Wrapping those as well would cost time.
        "lora_target_modules": list(LINEAR_MODULES),
    }
