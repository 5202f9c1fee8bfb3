"""The options of the vLLM engine. Imports nothing of vLLM."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What an operator can set of vLLM. None leaves vLLM's own default.

    Attributes:
        model: a folder, or a name on the hub.
        name: what clients call the model.
        dtype: number format of weights and activations, as vLLM names it.
        max_model_len: the most tokens of a prompt and its answer together.
        max_branches: sequences that the engine runs at the same time.
        block_size: tokens in a block of the KV cache. The prefix cache finds whole blocks only.
        kv_cache_gib: memory for the KV cache of one rank of the CPU back end; None for a share of what is free.
        gpu_memory_utilization: share of the GPU's memory that vLLM may use, 0 to 1.
        quantization: format of quantised weights, as vLLM names it.
        enforce_eager: do not compile the model.
        chat_template: text of a Jinja chat template, instead of the model's own.
        tool_call_parser: vLLM's parser of tool calls; None for the one that fits the model.
        tool_strict_level: what a grammar holds of tool calls that are not required: `auto`, `function` or `parameter`, as vLLM names it.
        reasoning_parser: vLLM's parser of reasoning; None for the one that fits the model, "none" to leave reasoning in the text.
        max_images: the most images of one prompt; 0 leaves the vision tower out.
        max_tokens: the most tokens that one answer may have.
        default_max_tokens: the same where the caller does not say.
        adapter_slots: LoRA adapters that the engine holds at the same time; 0 switches LoRA off.
        max_adapter_rank: the highest rank of an adapter.
        engine_args: further options of vLLM's engine, as words of its command line.
        is_cpu: whether vLLM's CPU back end is in use.

    """

    model: str
    name: str
    dtype: str = "auto"
    max_model_len: int | None = None
    max_branches: int = 64
    block_size: int | None = None
    kv_cache_gib: int | None = None
    gpu_memory_utilization: float | None = None
    quantization: str | None = None
    enforce_eager: bool = False
    chat_template: str | None = None
    tool_call_parser: str | None = None
    tool_strict_level: str = "auto"
    reasoning_parser: str | None = None
    max_images: int = 16
    max_tokens: int = 8192
    default_max_tokens: int = 2048
    adapter_slots: int = 0
    max_adapter_rank: int = 16
    engine_args: tuple[str, ...] = ()
    is_cpu: bool = True
