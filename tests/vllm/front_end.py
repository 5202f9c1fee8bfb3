"""vLLM without its engine process, for tests of what is rendered and read before and after it."""

from types import SimpleNamespace
from typing import Any


def without_engine(config: Any) -> Any:
    """Return those parts of vLLM's `AsyncLLM` for a config that need no engine process: what renders prompts and reads replies."""
    from vllm.renderers.registry import renderer_from_config

    return SimpleNamespace(
        vllm_config=config,
        model_config=config.model_config,
        renderer=renderer_from_config(config),
        input_processor=SimpleNamespace(mm_encoder_cache_size=100),
    )
