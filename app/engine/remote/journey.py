"""One branch over the replicas that generate it: when one fails, another goes on from the tokens that have arrived."""

from dataclasses import replace
from typing import Protocol

from app.engine.base import Branch, Output
from app.engine.replica import TokenPart, TokenRequest
from app.errors import NoReplica

MAX_MOVES = 2
"""Failures of replicas that one branch survives. A branch that crashes every replica must not crash them all."""

RETRY_S = 1.0
"""Seconds after which the caller of an answer that was given up may try again."""

_OF_ANSWER = ("presence_penalty", "frequency_penalty")
"""Penalties for tokens of the answer. An engine does not apply them to tokens that it gets as part of a prompt."""


class Reader(Protocol):
    """Turns the tokens of one branch into outputs, from the first to the last."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens so far."""
        ...

    def read(self, part: TokenPart) -> Output:
        """Return the next output. It may end the branch by a stop string that began before its replica did."""
        ...


class Journey:
    """What has arrived of one branch, and what is still to be asked for.

    Args:
        branch: that is generated.
        request: as its first replica gets it.
        reader: turns tokens into outputs.

    Attributes:
        is_halted: whether the branch was told to end while no replica had it.
        failed: the names of the replicas that failed while they generated it.

    """

    def __init__(self, branch: Branch, request: TokenRequest, reader: Reader) -> None:
        self._branch = branch
        self._first = request
        self._reader = reader
        self._tokens = 0  # before the current replica
        self._again: tuple[int, ...] = ()  # tokens that are generated again, and were passed on already
        self._prefix_tokens = len(request.token_ids)
        self._arrived = 0  # from the current replica
        self._computed = 0  # prefixes of replicas that failed
        self._recomputed = 0  # tokens of theirs that are generated again
        self.is_halted = False
        self.failed: list[str] = []

    @property
    def _can_go_on(self) -> bool:
        """Whether another replica can continue after the tokens that have arrived, instead of generating them again."""
        sampling = self._first.sampling
        return not self._branch.prompt.is_constrained and not any(sampling.get(name) for name in _OF_ANSWER)

    def move(self, name: str) -> None:
        """Note that the replica of this name failed. Raises `NoReplica` at the third failure."""
        self.failed.append(name)
        if len(self.failed) > MAX_MOVES:
            raise NoReplica("Several replicas failed while they generated this answer; try again.", retry_after=RETRY_S)
        if self._arrived:  # without a token, the replica did no work worth counting
            self._computed += self._prefix_tokens + self._tokens
        if self._can_go_on:
            self._tokens = len(self._reader.token_ids)
        else:
            self._again = self._reader.token_ids
            self._recomputed += self._arrived
        self._arrived = 0

    def next_request(self) -> TokenRequest | None:
        """Return what the next replica is asked for; None where all tokens have arrived, and only the end of the branch has not."""
        first = self._first
        if not self.failed or not self._tokens:
            return first
        left = first.sampling["max_tokens"] - self._tokens
        if left < 1:
            return None
        least = max(first.sampling.get("min_tokens", 0) - self._tokens, 0)
        sampling = {**first.sampling, "max_tokens": left, "min_tokens": least}
        return replace(first, token_ids=(*first.token_ids, *self._reader.token_ids), sampling=sampling)

    def read(self, part: TokenPart) -> Output | None:
        """Return the output of the next part; None where it has nothing new."""
        self._arrived += len(part.token_ids)
        if self._again:
            part = self._without_known(part)
            if not part.token_ids and part.finish_reason is None:
                return None
        output = self._reader.read(part)
        if self._computed and output.finish_reason is not None:
            lost = self._lost + self._prefix_tokens + self._tokens - (part.cached_tokens or 0)
            # How much of the prefix the first replica had in its cache, it can no longer tell.
            return replace(output, cached_tokens=0, recomputed_tokens=max(lost, 0))
        return output

    @property
    def _lost(self) -> int:
        """Tokens that failed replicas computed, without the branch's own prefix, which is counted once in any case."""
        return self._computed and self._computed - self._prefix_tokens + self._recomputed

    def _without_known(self, part: TokenPart) -> TokenPart:
        """Return a part without the tokens that were passed on before."""
        size = min(len(part.token_ids), len(self._again))
        ends_early = part.finish_reason not in {None, "abort"} and size < len(self._again)
        if ends_early or part.token_ids[:size] != self._again[:size]:
            message = "A replica failed, and another one did not repeat what it had sent of this answer; try again."
            raise NoReplica(message, retry_after=RETRY_S)
        self._again = self._again[size:]
        return replace(part, token_ids=part.token_ids[size:], positions=part.positions[size:])

    def end(self, finish_reason: str) -> Output:
        """Return the last output of a branch that no replica generates any more."""
        output = self._reader.read(TokenPart(finish_reason=finish_reason))
        return replace(output, recomputed_tokens=self._lost)
