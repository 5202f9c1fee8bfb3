"""What is checked of a replica before it gets branches: that its answers are those of every other replica."""

import asyncio
import math
import secrets
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
from app.errors import first_error_only

SAMPLE = (
    "The quick brown fox jumps over 13 lazy dogs; Zwölf Boxkämpfer jagen Viktor über den Sylter Deich. 你好 \u00e9 {}[]\n\n"
)
"""A text that other tokenizers split differently."""

TOLERANCE = 0.25
"""How much the mean log-probability of the sample may differ between replicas. Other processors and number formats change it less."""

NUM_PLACES = 16
"""Tokens of the sample that are compared."""

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
        """Compare what the replica computes with what the first one did. Raises `ReplicaUnfit`.

        The log-probabilities of a whole prompt would be one request, and would end vLLM's CPU back end where it serves adapters and other
        branches run (0.32): a replica must not end because another front end joins.
        """
        places = range(1, len(token_ids), max(len(token_ids) // NUM_PLACES, 1))
        try:
            async with asyncio.timeout(ANSWER_S):
                with first_error_only():
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(_logprob(replica, token_ids[:one], token_ids[one])) for one in places]
        except TimeoutError:
            raise ReplicaFailed(f"it took more than {ANSWER_S:g} s for {len(places)} tokens") from None
        except RequestFailed:
            raise ReplicaFailed("it fails at a sample") from None
        except RequestRefused as refusal:
            raise ReplicaUnfit(f"it refuses a sample: {refusal}") from None
        values = [task.result() for task in tasks]
        mean = math.fsum(values) / len(values)
        if not math.isfinite(mean) or min(values) <= NOT_A_NUMBER:
            raise ReplicaUnfit("it computes values that are not numbers")
        if self.mean_logprob is None:
            self.mean_logprob = mean
        elif abs(mean - self.mean_logprob) > TOLERANCE:
            raise ReplicaUnfit(
                f"it has other weights: a sample has {mean:.2f} nats a token, and {self.mean_logprob:.2f} elsewhere"
            )


async def _logprob(replica: Replica, prefix: tuple[int, ...], token: int) -> float:
    """Return the log-probability of a token behind a prefix; `NOT_A_NUMBER` if the replica does not tell it."""
    request = TokenRequest(
        id=f"ponder-join-{secrets.token_hex(8)}",
        token_ids=prefix,
        # One option is given twice: `app.engine.vllm.remote_branch` tells why.
        sampling={"max_tokens": 1, "temperature": 0, "logprobs": 2, "logprob_token_ids": [token, token]},
        interval=0,
    )
    parts = [part async for part in replica.generate(request)]
    return next(
        (value for part in parts for position in part.positions for one, value in position if one == token), NOT_A_NUMBER
    )
