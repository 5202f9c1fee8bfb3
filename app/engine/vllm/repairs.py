"""What ponder adds to a `vllm serve` process beside which it is installed: a replica that is as good as the engine in its own process.

vLLM calls `repair` in each of its processes, as a plugin (`vllm.general_plugins` in pyproject.toml).
"""

import asyncio
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

from adapters.object_store import AdapterCache, ObjectStore

REPAIRS = "PONDER_REPAIRS"
"""The variable that asks for them. The engine in ponder's own process is repaired when it starts, and does not need it."""


STORE = "PONDER_ADAPTER_STORE_URL"
"""The variable that names the store of adapters, as the setting of `ponder replica` does."""

logger = logging.getLogger("ponder.replicas")


def repair() -> None:
    """Repair vLLM's server or its CPU worker, whichever this process is. Does nothing without the variable."""
    if REPAIRS not in os.environ:
        return
    if multiprocessing.parent_process() is None:
        repair_server(_cache_of_environment())
    from vllm.platforms import current_platform  # noqa: PLC0415 - vLLM's platform is known only now

    if current_platform.is_cpu():
        repair_worker()


def repair_worker() -> None:
    """Let vLLM's CPU worker repair itself once its model is loaded."""
    from vllm.v1.worker.cpu_worker import CPUWorker  # noqa: PLC0415

    from app.engine.worker.extension import CpuWorker  # noqa: PLC0415

    warm_up = CPUWorker.compile_or_warm_up_model
    if hasattr(warm_up, REPAIRS):
        return

    def repaired(self: Any) -> Any:
        times = warm_up(self)
        CpuWorker.ponder_guard_seeds(self)
        CpuWorker.ponder_slice_prompts(self)
        if self.vllm_config.lora_config is not None:
            CpuWorker.ponder_group_loras(self)
            CpuWorker.ponder_spare_prompts(self)
        return times

    setattr(repaired, REPAIRS, True)
    CPUWorker.compile_or_warm_up_model = repaired


def _cache_of_environment() -> AdapterCache | None:
    """Return where adapters are found that front ends name by URLs, in a vLLM server that has none of our settings."""
    url = os.environ.get(STORE)
    return (url and AdapterCache(ObjectStore(url), Path("~/.cache/ponder/adapters").expanduser())) or None


def repair_server(cache: AdapterCache | None = None) -> None:
    """Let an adapter that is unloaded leave its slot, which it keeps otherwise (0.32). The page of metrics says so, and how many run.

    Adapters that are named by URLs of the `cache`'s store are read from there.
    """
    from prometheus_client import Gauge  # noqa: PLC0415
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels  # noqa: PLC0415

    unload = OpenAIServingModels.unload_lora_adapter
    load = OpenAIServingModels.load_lora_adapter
    begin = OpenAIServingModels.__init__
    if hasattr(unload, REPAIRS):
        return
    info = Gauge("ponder_replica_info", "What this replica is; always 1.", ["frees_slots", "max_branches", "reads_store"])

    async def unload_and_free(self: Any, request: Any) -> Any:
        known = self.lora_requests.get(request.lora_name)
        answer = await unload(self, request)
        if known is not None and request.lora_name not in self.lora_requests:
            await self.engine_client.remove_lora(known.lora_int_id)
        return answer

    async def fetch_and_load(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if cache is not None:
            try:
                folder = await asyncio.to_thread(cache.find, request.lora_path)
            except OSError as error:  # vLLM then answers that it is not there
                logger.warning("the adapter %s cannot be read: %s", request.lora_name, error)
                folder = None
            if folder is not None:
                request.lora_path = str(folder)
        return await load(self, request, *args, **kwargs)

    def tell(self: Any, engine_client: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, engine_client, *args, **kwargs)
        config = engine_client.vllm_config
        branches = config.scheduler_config.max_num_seqs * config.parallel_config.data_parallel_size
        info.labels(frees_slots="1", max_branches=str(branches), reads_store=str(int(cache is not None))).set(1)

    setattr(unload_and_free, REPAIRS, True)
    OpenAIServingModels.unload_lora_adapter = unload_and_free
    OpenAIServingModels.load_lora_adapter = fetch_and_load
    OpenAIServingModels.__init__ = tell
