"""What rendering needs of vLLM: of an engine in this process, or alone, without weights and without a device."""

from dataclasses import dataclass
from typing import Any, Protocol

from vllm.config import ModelConfig, VllmConfig
from vllm.renderers import renderer_from_config
from vllm.v1.engine.input_processor import InputProcessor

from app.engine.vllm.arguments import engine_arguments
from app.engine.vllm.options import EngineOptions


class Renders(Protocol):
    """What `Rendering` reads of vLLM; `AsyncLLM` has it all."""

    @property
    def renderer(self) -> Any:
        """The renderer, with the tokenizer."""
        ...

    @property
    def model_config(self) -> ModelConfig:
        """Of the model."""
        ...

    @property
    def vllm_config(self) -> VllmConfig:
        """Of the whole engine."""
        ...

    @property
    def input_processor(self) -> Any:
        """Checks inputs for the engine."""
        ...


@dataclass(frozen=True, slots=True)
class RenderOnly:
    """vLLM's renderer without an engine."""

    vllm_config: VllmConfig
    renderer: Any
    input_processor: Any

    @property
    def model_config(self) -> ModelConfig:
        """Of the model."""
        return self.vllm_config.model_config

    @classmethod
    def load(cls, options: EngineOptions) -> "RenderOnly":
        """Read the model's config and tokenizer, as `vllm launch render` does. Takes seconds."""
        arguments = engine_arguments(options)
        model = arguments.create_model_config()
        model.quantization = None  # nothing is computed here, so no device needs to support it
        config = VllmConfig(model_config=model, structured_outputs_config=arguments.create_structured_outputs_config())
        renderer = renderer_from_config(config)
        return cls(config, renderer, InputProcessor(config, renderer))
