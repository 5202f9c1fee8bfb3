"""What speculative decoding computes beside the tokens that are generated: drafted tokens are computed, the rejected ones in vain.

The engine tells how many tokens were drafted and how many of them were accepted (vLLM: `--per-request-spec-decode-metrics summary`,
then `CompletionOutput.spec_decode_metrics`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.engine.architecture import Architecture
from app.engine.flops.config import HIDDEN, VOCABULARY, size, text_config
from app.engine.flops.decoder import layer_kinds, read_layer
from app.engine.flops.layers import Layers


@dataclass(frozen=True, slots=True)
class Speculation:
    """A model and what drafts for it.

    Attributes:
        target: the model that is served, with its adapter.
        draft: a smaller model or a head of the target's; None where tokens are looked up (n-grams, suffixes).

    """

    target: Architecture
    draft: Architecture | None

    def extra(self, prompt_tokens: int, generated_tokens: int, drafted: int, accepted: int) -> int:
        """Return the FLOPs of one branch beyond those of `Architecture.branch_cost`.

        The target computes the drafted tokens that are rejected, with their logits. The draft reads the prompt, and in each step the
        tokens that are new to it. A step generates its accepted tokens and one more, so there are `generated_tokens - accepted` steps.
        In each, the pass over the new tokens drafts the first token, and one further pass each of the others: `drafted + accepted`
        tokens in all. Where in the branch they were is not known: all are taken to be in the middle of what was generated.
        """
        middle = prompt_tokens + generated_tokens // 2
        rejected = (drafted - accepted) * self.target.decode(1, middle)
        if self.draft is None or not drafted:
            return rejected
        passes = drafted * self.draft.decode(1, middle) + accepted * self.draft.prefill(1, middle)
        return rejected + self.draft.prefill(prompt_tokens) + passes


def prediction_head(config: Mapping[str, Any]) -> Architecture:
    """Return the head of a model that predicts tokens further ahead (MTP), from the model's config.

    It has one layer like the model's last one, a projection that joins a hidden state with an embedding, and the model's LM head.

    Raises:
        ValueError: the config lacks a size.

    """
    text = text_config(config)
    hidden, last = size(text, *HIDDEN), len(layer_kinds(text)) - 1
    join = Layers(per_token=2 * 2 * hidden * hidden)
    return Architecture(
        layers=(read_layer(text, last), join), num_layers=1, hidden_size=hidden, vocab_size=size(text, *VOCABULARY)
    )
