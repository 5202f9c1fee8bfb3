"""FLOPs of a transformer's forward passes, by arithmetic on its config. Pure: no model, no engine, no clock.

Counted, at two FLOPs per multiply-add: the matrix products of every layer (attention projections with grouped heads, gated
or plain MLP), an unmerged LoRA adapter's at its true rank (an engine may pad it), attention scores and values at the true context
length (causal: a token attends to itself and what is before it), and the LM head for each row of logits that is computed. Not
counted, together below 1 % on the models tried: norms, rotary embeddings, softmax, activations, sampling, embedding look-ups.

Sources: Kaplan et al. 2020 (2N per token plus attention), PaLM appendix B (4*L*H*Q*T per token for attention), and vLLM's
`v1/metrics/perf.py`, which charges a prefill the full rectangle, about twice the causal count, and leaves LoRA out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

LINEAR_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear modules of a layer, by the names that Hugging Face's models give them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The sizes of a decoder-only transformer.

    Attributes:
        num_kv_heads: fewer than `num_heads` with grouped-query attention.
        head_dim: width of one head.
        has_gated_mlp: three matrices (gate, up, down) instead of two.
        sliding_window: the most positions that a token attends to, None for all.
        lora_parameters: of the LoRA adapter that it runs with.

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
        """Read a Hugging Face `config.json`; raises `ValueError` for an architecture that this arithmetic does not describe."""
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
        """FLOPs of the matrix products of all layers and of the LoRA adapter, for one token."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = self.hidden_size * (queries + 2 * keys) + queries * self.hidden_size
        mlp = (3 if self.has_gated_mlp else 2) * self.hidden_size * self.intermediate_size
        return 2 * (self.num_layers * (attention + mlp) + self.lora_parameters)

    @property
    def head_per_row(self) -> int:
        """FLOPs of the LM head, for one row of logits."""
        return 2 * self.hidden_size * self.vocab_size

    @property
    def attention_per_position(self) -> int:
        """FLOPs of one token attending to one position: scores and values, in all layers."""
        return 4 * self.num_layers * self.num_heads * self.head_dim

    @property
    def linear_modules(self) -> dict[str, tuple[int, int]]:
        """The linear modules that a LoRA can update, with their (inputs, outputs); alike in all layers."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        hidden, inner = self.hidden_size, self.intermediate_size
        shapes = (
            (hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden), (hidden, inner), (hidden, inner), (inner, hidden)
        )  # fmt: skip
        return dict(zip(LINEAR_MODULES, shapes, strict=True))

    def with_lora(self, parameters: int) -> "Architecture":
        """The same model with an unmerged LoRA of so many parameters: each is one multiply-add more for every token."""
        return replace(self, lora_parameters=parameters)

    def prefill(self, num_tokens: int, num_before: int = 0) -> int:
        """FLOPs of one forward pass over `num_tokens` that follow `num_before` others, without logits."""
        return num_tokens * self.layers_per_token + self.attention_per_position * self._pairs(num_before, num_tokens)

    def _pairs(self, num_before: int, num_tokens: int) -> int:
        """Pairs of a token and a position it attends to: the causal triangle, cut by the sliding window."""
        window = self.sliding_window
        if window is None:
            return _triangle(num_before + num_tokens) - _triangle(num_before)
        return self._windowed(num_before + num_tokens, window) - self._windowed(num_before, window)

    @staticmethod
    def _windowed(length: int, window: int) -> int:
        return _triangle(min(length, window)) + max(length - window, 0) * window

    def branch_cost(self, prompt_tokens: int, cached_tokens: int, generated_tokens: int) -> tuple[int, int]:
        """FLOPs of (prefill, decode) for one branch.

        The prefill gives the logits of the first generated token; each further one costs a pass over the one before it,
        and the last is never fed back.
        """
        if generated_tokens < 1:
            return self.prefill(prompt_tokens - cached_tokens, cached_tokens), 0
        prefill = self.prefill(prompt_tokens - cached_tokens, cached_tokens) + self.head_per_row
        passes = generated_tokens - 1
        return prefill, self.prefill(passes, prompt_tokens) + passes * self.head_per_row

    def saved(self, prompt_tokens: int, cached_tokens: int) -> int:
        """FLOPs that the prefix cache made unnecessary."""
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
        """FLOPs of a batch of `tokens` positions with `pairs` of one and another that it attends to, and `rows` of logits.

        Forward alone, or with the backward pass (`learns`): as much again for the gradients of the activations, and once more for
        those of the weights that are trained, which is all of them (6N in Kaplan et al. 2020) or the LoRA's (4N and a little).
        Attention has no weights: its backward pass costs twice its forward pass. `recomputes`: the layers' forward pass is done twice;
        `rows_again`: that many logits are.
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
        """The most tokens that a branch with nothing cached can generate for at most `flops`; 0 when not even one."""
        low, high = 0, max(flops // self.layers_per_token, 0) + 1
        while low < high:
            middle = (low + high + 1) // 2
            if sum(self.branch_cost(prompt_tokens, 0, middle)) <= flops:
                low = middle
            else:
                high = middle - 1
        return low


_PLAIN_MLP = frozenset({"gpt2", "gpt_neox", "opt", "phi", "starcoder2", "falcon", "bloom", "mpt"})


def _triangle(length: int) -> int:
    return length * (length + 1) // 2
