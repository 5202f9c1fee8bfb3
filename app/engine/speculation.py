"""What speculative decoding computes beside the tokens that are generated: drafted tokens are computed, the rejected ones in vain."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.engine.architecture import Architecture
from app.engine.flops.config import HIDDEN, VOCABULARY, size, text_config
from app.engine.flops.decoder import layer_kinds, read_layer
from app.engine.flops.layers import Layers


class Drafts(NamedTuple):
    """The tokens that were drafted for one branch, and how many of them the model accepted."""

    drafted: int = 0
    accepted: int = 0


NO_DRAFTS = Drafts()


@dataclass(frozen=True, slots=True)
class Speculation:
    """How tokens are drafted for the served model.

    Attributes:
        draft: a smaller model or a head of the served one; None where tokens are looked up (n-grams, suffixes).
        num_tokens: the most tokens that are drafted in one step.

    """

    draft: Architecture | None
    num_tokens: int

    def extra_cost(
        self, target: Architecture, prompt_tokens: int, cached_tokens: int, generated_tokens: int, drafts: Drafts
    ) -> int:
        """Return the FLOPs of one branch beyond those of `target.branch_cost`.

        The target computes the drafted tokens that are rejected, with their logits. The draft reads the prompt, and in each step the
        tokens that are new to it. A step generates its accepted tokens and one more, so there are `generated_tokens - accepted` steps.
        In each, the pass over the new tokens drafts the first token, and one further pass each of the others: `drafted + accepted`
        tokens in all. Where in the branch they were is not known: all are taken to be in the middle of what was generated.

        Args:
            target: the model that is served, with its adapter.
            prompt_tokens: length of the branch's prefix.
            cached_tokens: how many tokens of it were found in the prefix cache.
            generated_tokens: how many tokens were generated.
            drafts: for this branch.

        """
        middle = prompt_tokens + generated_tokens // 2
        rejected = (drafts.drafted - drafts.accepted) * target.decode(1, middle)
        if self.draft is None:
            return rejected
        passes = drafts.drafted * self.draft.decode(1, middle) + drafts.accepted * self.draft.prefill(1, middle)
        return rejected + self.draft.prefill(prompt_tokens - cached_tokens, cached_tokens) + passes

    def most(self, target: Architecture, prompt_tokens: int, generated_tokens: int) -> int:
        """Return `extra_cost` for a branch with nothing cached whose drafts are all rejected."""
        steps = max(generated_tokens - 1, 0)  # the prefill gives the first token
        return self.extra_cost(target, prompt_tokens, 0, generated_tokens, Drafts(steps * self.num_tokens))


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
