"""What the FLOPs of drafted tokens follow from: vLLM's configuration of speculative decoding."""

from dataclasses import replace

from vllm.config import ModelConfig, SpeculativeConfig, VllmConfig

from app.engine.architecture import Architecture
from app.engine.flops.config import attempt
from app.engine.speculation import Speculation, prediction_head

LOOKUPS = frozenset({"ngram", "ngram_gpu", "suffix", "custom_class", "extract_hidden_states"})
"""Methods that look tokens up, or whose cost nobody knows; the last of them drafts nothing."""


def with_drafts_counted(config: VllmConfig) -> VllmConfig:
    """Return vLLM's configuration, by which it counts the drafted tokens of each request where it drafts any."""
    if config.speculative_config is not None:
        config.observability_config.per_request_spec_decode_metrics = "summary"
    return config


def speculation_of(config: VllmConfig) -> Speculation | None:
    """Return how tokens are drafted; None without speculative decoding."""
    speculative = config.speculative_config
    if speculative is None:
        return None
    return Speculation(_draft(speculative, config.model_config), speculative.num_speculative_tokens)


def _draft(speculative: SpeculativeConfig, model: ModelConfig) -> Architecture | None:
    """Return what computes the drafts; None for a lookup."""
    if speculative.method in LOOKUPS:
        return None
    head = attempt(prediction_head, model.hf_config.to_dict(), None)
    if speculative.method == "mtp" and head is not None:
        return head
    config = speculative.draft_model_config.hf_config.to_dict()
    try:
        # The config of an EAGLE head has the config of its layers within.
        draft = Architecture.from_config(config.get("model") or config)
    except ValueError:
        draft = head or Architecture.from_config(model.hf_config.to_dict())
    return replace(draft, is_estimate=draft.is_estimate or not speculative.uses_draft_model())
