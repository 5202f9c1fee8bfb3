"""FLOPs of a transformer's forward and backward passes, by arithmetic on the sizes in its config. Needs no model and no engine.

Counted, at two FLOPs for each multiply-add:

- the matrix products of every layer: attention projections with grouped heads, and a gated or plain MLP;
- those of an unmerged LoRA adapter, at its true rank (an engine may pad it to a higher one);
- attention scores and values at the true context length: a token attends to itself and to what is before it;
- the LM head, for each row of logits that is computed.

Not counted, together below 1 % on the models that were tried: norms, rotary embeddings, softmax, activations, sampling, and
look-ups of embeddings.

Sources: Kaplan et al. 2020 (arXiv 2001.08361): 2N FLOPs for each token plus attention. Chowdhery et al. 2022 (PaLM, arXiv 2204.02311),
appendix B: 4 L H Q T FLOPs of attention for each token, forward. vLLM's `v1/metrics/perf.py` differs: it charges a prefill the full
rectangle of attention, about twice the causal count, and leaves LoRA out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

LINEAR_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear modules of a layer, by their names in Hugging Face's models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The sizes of a decoder-only transformer.

    Attributes:
        num_layers: transformer layers.
        hidden_size: width of the residual stream.
        num_heads: attention heads of a layer.
        num_kv_heads: heads for keys and values; fewer than `num_heads` with grouped-query attention.
        head_dim: width of one head.
        intermediate_size: width of the MLP.
        vocab_size: rows of the LM head.
        has_gated_mlp: whether the MLP has three matrices (gate, up, down) instead of two.
        sliding_window: the most positions that a token attends to; None for all.
        lora_parameters: number of parameters of the LoRA adapter that the model runs with; 0 without one.

    """

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    has_gated_mlp: bool = True
    sliding_window: int | None = None
    lora_parameters: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture":
        """Read the sizes from a Hugging Face `config.json`.

        Raises:
            ValueError: this arithmetic does not describe the architecture, or the config lacks a size.

        """
        config = config.get("text_config") or config
        if config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts"):
            message = "mixture-of-experts models are not counted yet"
            raise ValueError(message)
        try:
            heads = config["num_attention_heads"]
            return cls(
                num_layers=config["num_hidden_layers"],
                hidden_size=config["hidden_size"],
                num_heads=heads,
                num_kv_heads=config.get("num_key_value_heads") or heads,
                head_dim=config.get("head_dim") or config["hidden_size"] // heads,
                intermediate_size=config["intermediate_size"],
                vocab_size=config["vocab_size"],
                has_gated_mlp=config.get("model_type") not in _PLAIN_MLP,
                sliding_window=config.get("sliding_window") if config.get("use_sliding_window", True) else None,
            )
        except KeyError as missing:
            message = f"the model's config has no {missing}: its FLOPs cannot be counted"
            raise ValueError(message) from missing

    @property
    def layers_per_token(self) -> int:
        """FLOPs for one token of the matrix products in all layers, LoRA included and attention scores not."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = self.hidden_size * (queries + 2 * keys) + queries * self.hidden_size
        mlp = (3 if self.has_gated_mlp else 2) * self.hidden_size * self.intermediate_size
        return 2 * (self.num_layers * (attention + mlp) + self.lora_parameters)

    @property
    def head_per_row(self) -> int:
        """FLOPs of the LM head for one row of logits."""
        return 2 * self.hidden_size * self.vocab_size

    @property
    def attention_per_position(self) -> int:
        """FLOPs of one token attending to one position, for scores and values, in all layers."""
        return 4 * self.num_layers * self.num_heads * self.head_dim

    @property
    def linear_modules(self) -> dict[str, tuple[int, int]]:
        """The linear modules that LoRA can update, with the sizes (inputs, outputs) that they have in every layer."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        hidden, inner = self.hidden_size, self.intermediate_size
        shapes = (
            (hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden), (hidden, inner), (hidden, inner), (inner, hidden)
        )  # fmt: skip
        return dict(zip(LINEAR_MODULES, shapes, strict=True))

    def with_lora(self, parameters: int) -> "Architecture":
        """Return the same model with an unmerged LoRA adapter. Each of its parameters is one more multiply-add for every token."""
        return replace(self, lora_parameters=parameters)

    def prefill(self, num_tokens: int, num_before: int = 0) -> int:
        """Return the FLOPs of one forward pass over `num_tokens` that follow `num_before` others, without logits."""
        return num_tokens * self.layers_per_token + self.attention_per_position * self._pairs(num_before, num_tokens)

    def _pairs(self, num_before: int, num_tokens: int) -> int:
        """Return how many pairs there are of a token and a position that it attends to: a causal triangle, cut by the sliding window."""
        window = self.sliding_window
        if window is None:
            return _triangle(num_before + num_tokens) - _triangle(num_before)
        return self._windowed(num_before + num_tokens, window) - self._windowed(num_before, window)

    @staticmethod
    def _windowed(length: int, window: int) -> int:
        return _triangle(min(length, window)) + max(length - window, 0) * window

    def branch_cost(self, prompt_tokens: int, cached_tokens: int, generated_tokens: int) -> tuple[int, int]:
        """Return the FLOPs of (prefill, decode) for one branch.

        The prefill gives the logits of the first generated token. Each further token costs a pass over the token before it. The last
        token is never fed back, so `n` tokens cost `n - 1` passes.
        """
        if generated_tokens < 1:
            return self.prefill(prompt_tokens - cached_tokens, cached_tokens), 0
        prefill = self.prefill(prompt_tokens - cached_tokens, cached_tokens) + self.head_per_row
        passes = generated_tokens - 1
        return prefill, self.prefill(passes, prompt_tokens) + passes * self.head_per_row

    def saved(self, prompt_tokens: int, cached_tokens: int) -> int:
        """Return the FLOPs that the prefix cache saves when it holds the first `cached_tokens` of a prompt."""
        return self.prefill(prompt_tokens) - self.prefill(prompt_tokens - cached_tokens, cached_tokens)

    def training_pass(
        self,
        tokens: int,
        pairs: int,
        rows: int,
        *,
        learns: bool,
        trains_all: bool,
        rows_again: int = 0,
        recomputes: bool = False,
    ) -> int:
        """Return the FLOPs of one training batch.

        The backward pass computes the gradients of the activations, which costs as much as the forward pass, and the gradients of the
        weights that are trained, which costs as much again for these weights. So training all N weights costs 6N FLOPs for each token
        (Kaplan et al. 2020), and training a LoRA adapter a little more than 4N. Attention has no weights, and its backward pass costs
        twice its forward pass.

        Args:
            tokens: positions in the batch.
            pairs: pairs of a position and one that it attends to.
            rows: rows of logits.
            learns: whether there is a backward pass; else this is the forward pass alone.
            trains_all: whether all weights are trained; else those of the LoRA adapter.
            rows_again: rows of logits that the backward pass computes again.
            recomputes: whether the backward pass computes the layers again (gradient checkpointing).

        """
        layers = tokens * self.layers_per_token
        lora = 2 * tokens * self.lora_parameters
        head = rows * self.head_per_row
        attention = pairs * self.attention_per_position
        forward = layers + head + attention
        if not learns:
            return forward
        weights = layers + head if trains_all else lora
        again = rows_again * self.head_per_row + (layers + attention if recomputes else 0)
        return 2 * forward + attention + weights + again

    def affordable_tokens(self, prompt_tokens: int, flops: int) -> int:
        """Return the most tokens that a branch with nothing cached can generate for at most `flops`; 0 when it cannot afford one."""
        # The cost is not linear in the tokens, because attention grows with the context: a binary search finds the last that fits.
        low, high = 0, max(flops // self.layers_per_token, 0) + 1
        while low < high:
            middle = (low + high + 1) // 2
            if sum(self.branch_cost(prompt_tokens, 0, middle)) <= flops:
                low = middle
            else:
                high = middle - 1
        return low


# Values of `model_type` in configs of models whose MLP has no gate.
_PLAIN_MLP = frozenset({"gpt2", "gpt_neox", "opt", "phi", "starcoder2", "falcon", "bloom", "mpt"})


def _triangle(length: int) -> int:
    """Return the number of pairs in a causal triangle: 1 + 2 + … + length."""
    return length * (length + 1) // 2
