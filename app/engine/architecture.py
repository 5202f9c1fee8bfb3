"""FLOPs of a model's forward and backward passes, by arithmetic on the sizes in its config. Needs no model and no engine.

Counted, at two FLOPs for each multiply-add:

- the matrix products of every layer (`app.engine.flops`): of attention, of MLPs and experts, of recurrent layers and their states;
- those of an unmerged LoRA adapter, at its true rank (an engine may pad it to a higher one);
- attention scores and values at the true context length: a token attends to itself and to what is before it, within its window;
- the LM head, tied to the embeddings or not, for each row of logits that is computed;
- for an image, the vision tower and its projector.

Not counted, together below 1 % on the models that were tried: norms, rotary embeddings, softmax, activations, sampling, and
look-ups of embeddings.

Sources: Kaplan et al. 2020 (arXiv 2001.08361): 2N FLOPs for each token plus attention. Chowdhery et al. 2022 (PaLM, arXiv 2204.02311),
appendix B: 4 L H Q T FLOPs of attention for each token, forward. vLLM's `v1/metrics/perf.py` differs: it charges a prefill the full
rectangle of attention, about twice the causal count, and leaves LoRA out.
"""

from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import TypeAdapter, validate_call

from app.engine.flops.attention import Heads, grouped
from app.engine.flops.config import HIDDEN, LAYERS, MALFORMED, VOCABULARY, attempt, number, size, text_config
from app.engine.flops.decoder import FAMILIES, layer_kinds, read_layers
from app.engine.flops.estimate import estimate_layers
from app.engine.flops.layers import Layers
from app.engine.flops.modules import LINEAR_MODULES, Modules, dense_modules, read_modules
from app.engine.flops.vision import ImageTokens, VisionTower, read_vision

__all__ = ["LINEAR_MODULES", "Architecture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a model costs, and the sizes of it that the service needs.

    Attributes:
        layers: of the decoder, equal ones together.
        num_layers: number of the decoder's layers; 0 where nobody knows.
        hidden_size: width of what the LM head reads.
        vocab_size: rows of the LM head.
        modules: the linear modules that LoRA can update: name, inputs, outputs. Those that every layer has in the same size.
        lora_parameters: number of parameters of the LoRA adapter that the model runs with; 0 without one.
        vision: what reads images; None where nothing does, or where it is not known.
        images: the images in what the model reads; none unless a prompt has some.
        is_estimate: whether the FLOPs are estimated, because nobody has counted this architecture yet.

    """

    layers: tuple[Layers, ...]
    num_layers: int
    hidden_size: int
    vocab_size: int
    modules: Modules = ()
    lora_parameters: int = 0
    vision: VisionTower | None = None
    images: tuple[ImageTokens, ...] = ()
    is_estimate: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any], parameters: int | None = None) -> Self:
        """Read the sizes from a Hugging Face `config.json`.

        The cost of an architecture that is not known, or whose config lacks a size, is estimated: from the number of `parameters` of
        its decoder where that is given.

        Raises:
            ValueError: not even the number of layers and their width are known.

        """
        text = text_config(config)
        if text.get("model_type") in FAMILIES:
            with suppress(*MALFORMED):
                return cls(
                    layers=read_layers(text),
                    num_layers=len(layer_kinds(text)),
                    hidden_size=size(text, "word_embed_proj_dim", *HIDDEN),  # OPT may have narrower embeddings
                    vocab_size=size(text, *VOCABULARY),
                    modules=read_modules(text),
                    vision=attempt(read_vision, config, None),
                )
        return cls(
            layers=estimate_layers(text, parameters),
            num_layers=number(text, *LAYERS),
            hidden_size=number(text, *HIDDEN),
            vocab_size=number(text, *VOCABULARY),
            modules=attempt(read_modules, text, ()),
            is_estimate=True,
        )

    @classmethod
    def dense(
        cls,
        *,
        num_layers: int,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        intermediate_size: int,
        vocab_size: int,
        has_gated_mlp: bool = True,
        sliding_window: int | None = None,
        lora_parameters: int = 0,
    ) -> Self:
        """Return a transformer whose layers are all alike, with grouped attention and one MLP."""
        heads = Heads(hidden_size, num_heads * head_dim, num_kv_heads * head_dim)
        mlp = (3 if has_gated_mlp else 2) * hidden_size * intermediate_size
        layer = grouped(heads)
        return cls(
            layers=(replace(layer, per_token=layer.per_token + 2 * mlp, window=sliding_window, count=num_layers),),
            num_layers=num_layers,
            hidden_size=hidden_size,
            vocab_size=vocab_size,
            modules=dense_modules(heads, intermediate_size),
            lora_parameters=lora_parameters,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Architecture":
        """Return what `to_dict` wrote, or a policy file of version 0.1: the arguments of `dense`.

        Raises:
            ValueError: it is neither.

        """
        return _DENSE(**values) if "num_heads" in values else _SERIALISER.validate_python(values)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields in the types of JSON."""
        written: dict[str, Any] = _SERIALISER.dump_python(self, mode="json")
        return written

    @property
    def layers_per_token(self) -> int:
        """FLOPs for one token of the matrix products in all layers, with LoRA and states, without attention scores."""
        return sum(one.count * (one.per_token + one.per_state) for one in self.layers) + 2 * self.lora_parameters

    @property
    def head_per_row(self) -> int:
        """FLOPs of the LM head for one row of logits."""
        return 2 * self.hidden_size * self.vocab_size

    @property
    def attention_per_position(self) -> int:
        """FLOPs of one token attending to one position, for scores and values, in all layers."""
        return sum(one.count * one.per_position for one in self.layers)

    @property
    def linear_modules(self) -> dict[str, tuple[int, int]]:
        """The linear modules that LoRA can update, with the sizes (inputs, outputs) that they have in every layer."""
        return {name: (inputs, outputs) for name, inputs, outputs in self.modules}

    def with_lora(self, parameters: int) -> "Architecture":
        """Return the same model with an unmerged LoRA adapter. Each of its parameters is one more multiply-add for every token."""
        return replace(self, lora_parameters=parameters)

    def with_images(self, images: tuple[ImageTokens, ...]) -> "Architecture":
        """Return the same model, whose prefill computes the vision tower for these images."""
        return replace(self, images=images) if images != self.images else self

    def without_encoded(self, encoded: Container[ImageTokens], cached_tokens: int) -> "Architecture":
        """Return the same model without the images that the tower has read before and that the prefix cache does not hold."""
        return self.with_images(tuple(image for image in self.images if image not in encoded or image.end <= cached_tokens))

    def prefill(self, num_tokens: int, num_before: int = 0) -> int:
        """Return the FLOPs of one forward pass over `num_tokens` that follow `num_before` others, without logits.

        The vision tower is computed for each image that is not wholly before them.
        """
        lora = 2 * num_tokens * self.lora_parameters
        images = sum(self.image(one.encoded) for one in self.images if num_before < one.end <= num_before + num_tokens)
        return lora + images + sum(one.prefill(num_tokens, num_before) for one in self.layers)

    def decode(self, num_tokens: int, num_before: int) -> int:
        """Return the FLOPs of `num_tokens` forward passes over one token each, the first after `num_before` others, with logits."""
        fixed = num_tokens * (2 * self.lora_parameters + self.head_per_row)
        return fixed + sum(one.decode(num_tokens, num_before) for one in self.layers)

    def image(self, num_tokens: int) -> int:
        """Return the FLOPs of reading an image that becomes `num_tokens` tokens, before the decoder; 0 where its tower is not known."""
        return 0 if self.vision is None else self.vision.image(num_tokens)

    def branch_cost(self, prompt_tokens: int, cached_tokens: int, generated_tokens: int) -> tuple[int, int]:
        """Return the FLOPs of (prefill, decode) for one branch.

        The prefill gives the logits of the first generated token. Each further token costs a pass over the token before it. The last
        token is never fed back, so `n` tokens cost `n - 1` passes.
        """
        if generated_tokens < 1:
            return self.prefill(prompt_tokens - cached_tokens, cached_tokens), 0
        prefill = self.prefill(prompt_tokens - cached_tokens, cached_tokens) + self.head_per_row
        return prefill, self.decode(generated_tokens - 1, prompt_tokens)

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

    def affordable_tokens(self, prompt_tokens: int, flops: int, extra: Callable[[int], int] = lambda _tokens: 0) -> int:
        """Return the most tokens that a branch with nothing cached can generate for at most `flops`; 0 when it cannot afford one.

        `extra` returns what so many generated tokens cost beside `branch_cost`.
        """
        # The cost is not linear in the tokens, because attention grows with the context: a binary search finds the last that fits.
        low, high = 0, max(flops // self.layers_per_token, 0) + 1
        while low < high:
            middle = (low + high + 1) // 2
            if sum(self.branch_cost(prompt_tokens, 0, middle)) + extra(middle) <= flops:
                low = middle
            else:
                high = middle - 1
        return low


_SERIALISER = TypeAdapter(Architecture)
_DENSE = validate_call(Architecture.dense)
