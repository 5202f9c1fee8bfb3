"""What is checked of a replica before it gets branches: that its answers are those of every other replica."""

import asyncio
import math
from collections.abc import Callable

from app.engine.replica import (
    NOT_A_NUMBER,
    Replica,
    ReplicaCard,
    ReplicaFailed,
    ReplicaUnfit,
    RequestFailed,
    RequestRefused,
    TokenRequest,
)

SAMPLE = (
    "The quick brown fox jumps over 13 lazy dogs; Zwölf Boxkämpfer jagen Viktor über den Sylter Deich. 你好 \u00e9 {}[]\n\n"
)
"""A text that other tokenizers split otherwise."""

TOLERANCE = 0.25
"""How much the mean log-probability of the sample's tokens may differ between replicas: processors and number formats differ by less."""

ANSWER_S = 120.0
"""Seconds that the pass over the sample may take. The first pass after a start may compile."""


class Joining:
    """Compares replicas with the model that is served.

    Args:
        encode: returns the token ids of a text by this server's own tokenizer.
        max_model_len: returns the most tokens of a prompt and its answer together, as callers know it.

    Attributes:
        mean_logprob: of the sample, by the first replica that joined; None before.

    """

    def __init__(self, encode: Callable[[str], tuple[int, ...]], max_model_len: Callable[[], int]) -> None:
        self._encode = encode
        self._max_model_len = max_model_len
        self.mean_logprob: float | None = None

    async def check(self, replica: Replica) -> ReplicaCard:
        """Return the card of a replica that may serve. Raises `ReplicaUnfit`."""
        card = await replica.describe()
        if card.max_model_len < self._max_model_len():
            raise ReplicaUnfit(f"its context has {card.max_model_len} tokens, and callers may use {self._max_model_len()}")
        token_ids = self._encode(SAMPLE)
        theirs = await replica.tokenize(SAMPLE)
        if theirs is not None and theirs != token_ids:
            raise ReplicaUnfit(f"it has another tokenizer: {theirs[:8]} in place of {token_ids[:8]}")
        await self._compare(replica, token_ids)
        return card

    async def _compare(self, replica: Replica, token_ids: tuple[int, ...]) -> None:
        """Compare what the replica computes with what the first one did. Raises `ReplicaUnfit`."""
        request = TokenRequest(
            id="ponder-join",
            token_ids=token_ids,
            sampling={"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, "skip_reading_prefix_cache": True},
            interval=0,
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                [part] = [part async for part in replica.generate(request)]
        except TimeoutError:
            raise ReplicaFailed(f"it took more than {ANSWER_S:g} s for {len(token_ids)} tokens") from None
        except RequestFailed:
            raise ReplicaFailed("it fails at a sample") from None
        except RequestRefused as refusal:
            raise ReplicaUnfit(f"it refuses a sample: {refusal}") from None
        mean = _mean(part.prompt_logprobs, token_ids)
        if mean is None or not math.isfinite(mean):
            raise ReplicaUnfit("it computes values that are not numbers")
        if self.mean_logprob is None:
            self.mean_logprob = mean
        elif abs(mean - self.mean_logprob) > TOLERANCE:
            raise ReplicaUnfit(
                f"it has other weights: a sample has {mean:.2f} nats a token, and {self.mean_logprob:.2f} elsewhere"
            )


def _mean(positions: list[dict[str, dict[str, float]] | None] | None, token_ids: tuple[int, ...]) -> float | None:
    """Return the mean log-probability of the sample's tokens but the first, None where one is missing."""
    try:
        values = [
            position[str(token)]["logprob"]
            for token, position in zip(token_ids[1:], (positions or ())[1:], strict=True)
            if position
        ]
    except (KeyError, ValueError, TypeError):
        return None
    return math.fsum(values) / len(values) if values and min(values) > NOT_A_NUMBER else None
