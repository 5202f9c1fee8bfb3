"""LoRA adapters in vLLM's engine.

vLLM's own routes would not do (0.32): unloading only forgets the name and leaves the adapter in its slot, and loading again under
one name keeps blocks of the prefix cache that the old weights computed. Here every version has an id and a name that are never used
again, and its files are a folder that never changes.
"""

from collections.abc import Callable

from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.vllm.errors import adapter_errors


def lora_request(adapter: EngineAdapter) -> LoRARequest:
    """Return the adapter as vLLM's requests name it."""
    return LoRARequest(adapter.name, adapter.id, adapter.path)


class LoraSlots:
    """Loads adapters into vLLM's slots and removes them.

    Args:
        llm: returns vLLM's engine; raises `EngineDead` where there is none.

    """

    def __init__(self, llm: Callable[[], AsyncLLM]) -> None:
        self._llm = llm

    async def load(self, adapter: EngineAdapter) -> None:
        """Load an adapter, between two steps of the engine. Raises `AdapterFailed` when vLLM does not take it."""
        with adapter_errors():
            if not await self._llm().add_lora(lora_request(adapter)):
                raise AdapterFailed("The engine did not take it.")

    async def unload(self, adapter: EngineAdapter) -> None:
        """Free the adapter's slot and its copy in memory. Raises `AdapterFailed` when vLLM still holds it afterwards."""
        with adapter_errors():
            llm = self._llm()
            await llm.remove_lora(adapter.id)
            if adapter.id in await llm.list_loras():
                raise AdapterFailed("The engine still holds it.")

    async def loaded(self) -> frozenset[int]:
        """Return the ids of the adapters that vLLM's worker holds."""
        with adapter_errors():
            return frozenset(await self._llm().list_loras())
