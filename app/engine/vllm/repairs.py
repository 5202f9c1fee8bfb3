"""What ponder adds to a `vllm serve` process beside which it is installed: a replica that is as good as the engine in its own process.

vLLM calls `repair` in each of its processes, as a plugin (`vllm.general_plugins` in pyproject.toml).
"""

import multiprocessing
import os
from typing import Any

REPAIRS = "PONDER_REPAIRS"
"""The variable that asks for them. The engine in ponder's own process is repaired when it starts, and does not need it."""


def repair() -> None:
    """Repair vLLM's server or its CPU worker, whichever this process is. Does nothing without the variable."""
    if REPAIRS not in os.environ:
        return
    if multiprocessing.parent_process() is None:
        repair_server()
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


def repair_server() -> None:
    """Let an adapter that is unloaded leave its slot, which it keeps otherwise (0.32). The page of metrics says so, and how many run."""
    from prometheus_client import Gauge  # noqa: PLC0415
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels  # noqa: PLC0415

    unload = OpenAIServingModels.unload_lora_adapter
    begin = OpenAIServingModels.__init__
    if hasattr(unload, REPAIRS):
        return
    info = Gauge("ponder_replica_info", "What this replica is; always 1.", ["frees_slots", "max_branches"])

    async def unload_and_free(self: Any, request: Any) -> Any:
        known = self.lora_requests.get(request.lora_name)
        answer = await unload(self, request)
        if known is not None and request.lora_name not in self.lora_requests:
            await self.engine_client.remove_lora(known.lora_int_id)
        return answer

    def tell(self: Any, engine_client: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, engine_client, *args, **kwargs)
        config = engine_client.vllm_config
        branches = config.scheduler_config.max_num_seqs * config.parallel_config.data_parallel_size
        info.labels(frees_slots="1", max_branches=str(branches)).set(1)

    setattr(unload_and_free, REPAIRS, True)
    OpenAIServingModels.unload_lora_adapter = unload_and_free
    OpenAIServingModels.__init__ = tell
