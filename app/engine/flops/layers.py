"""What equal layers cost, and how often a token attends to a position."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Some layers that cost the same. All figures are FLOPs of one of them.

    Attributes:
        per_token: of the matrix products for one token.
        per_position: of one token attending to one position, for scores and values; 0 without softmax attention.
        per_decoded_position: the same for a token that is decoded, where it is computed in another way; None where it is not.
        per_cached: for each position that is in the KV cache when a prefill begins. Latent attention projects it up again.
        per_state: of what one token reads from and writes into a state of fixed size.
        window: the most positions that a token attends to; None for all before it.
        is_chunked: whether the positions are divided into chunks of `window`, and a token attends within its own.
        count: number of these layers.

    """

    per_token: int
    per_position: int = 0
    per_decoded_position: int | None = None
    per_cached: int = 0
    per_state: int = 0
    window: int | None = None
    is_chunked: bool = False
    count: int = 1

    def prefill(self, num_tokens: int, num_before: int) -> int:
        """Return the FLOPs of all these layers for `num_tokens` that follow `num_before` others and are computed together."""
        cached = num_before if num_tokens else 0
        return self._pass(num_tokens, num_before, self.per_position) + self.count * cached * self.per_cached

    def decode(self, num_tokens: int, num_before: int) -> int:
        """Return the FLOPs of all these layers for `num_tokens` that follow `num_before` others and are computed one by one."""
        per_position = self.per_position if self.per_decoded_position is None else self.per_decoded_position
        return self._pass(num_tokens, num_before, per_position)

    def encode(self, num_tokens: int) -> int:
        """Return the FLOPs of all these layers for `num_tokens` that all attend to one another, or to all of their own window."""
        return self.count * num_tokens * (self.per_token + min(num_tokens, self.window or num_tokens) * self.per_position)

    def _pass(self, num_tokens: int, num_before: int, per_position: int) -> int:
        pairs = self._pairs(num_before + num_tokens) - self._pairs(num_before)
        return self.count * (num_tokens * (self.per_token + self.per_state) + pairs * per_position)

    def _pairs(self, length: int) -> int:
        """Return how many pairs there are of a token and a position that it attends to, among the first `length` tokens."""
        window = self.window
        if window is None:
            return _triangle(length)
        if self.is_chunked:
            return length // window * _triangle(window) + _triangle(length % window)
        return _triangle(min(length, window)) + max(length - window, 0) * window


def group(layers: Iterable[Layers]) -> tuple[Layers, ...]:
    """Put equal layers together, in the order in which they first appear."""
    counts: Counter[Layers] = Counter()
    for one in layers:
        counts[replace(one, count=1)] += one.count
    return tuple(replace(one, count=count) for one, count in counts.items())


def _triangle(length: int) -> int:
    """Return the number of pairs in a causal triangle: 1 + 2 + … + length."""
    return length * (length + 1) // 2
