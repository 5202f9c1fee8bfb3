"""The port behind which a replica stands, and the values that cross the wire: tokens in, tokens out."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from adapters.ports import EngineAdapter
from app.engine.speculation import NO_DRAFTS, Drafts


class ReplicaFailed(Exception):
    """The replica failed: its branches go on elsewhere. The message is for the log and for operators, and never for callers."""


class ReplicaUnfit(ReplicaFailed):
    """The replica is not one of this fleet: another model, a wrong key, no usable route. It stays out until it changes."""


class RequestRefused(Exception):
    """The replica works, and refuses what was asked of it. The message is written for callers."""


class RequestFailed(Exception):
    """The replica failed at this branch alone, and goes on with others."""


class UnknownAdapter(ReplicaFailed):
    """The replica does not have the adapter of a branch: it was started anew, and nobody has noticed yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One branch as a replica gets it.

    Attributes:
        id: of the branch, never used again.
        token_ids: to continue.
        sampling: the engine's sampling parameters in the types of JSON.
        adapter: the LoRA adapter to generate with; None for the base model.
        priority: branches with a lower number are served first.
        cache_salt: branches share cached prefixes only with branches of the same salt.
        interval: a part is sent each time so many tokens have been generated. 0 for one part at the end: the log-probabilities of a
            prompt come only so.
        gate: says where a grammar begins, in the engine's own form.
        features: images, in the engine's own form; None for none.

    """

    id: str
    token_ids: tuple[int, ...]
    sampling: Mapping[str, Any]
    adapter: EngineAdapter | None = None
    priority: int = 0
    cache_salt: str | None = None
    interval: int = 1
    gate: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Any] | None = None


NOT_A_NUMBER = -9999.0
"""What vLLM's server sends in place of a log-probability that is not a number, or is minus infinity."""

Position = tuple[tuple[int, float], ...]
"""The log-probabilities at one generated token: (token id, log-probability), first of the token itself, then of others."""


@dataclass(frozen=True, slots=True)
class TokenPart:
    """What a branch generated since its last part.

    Attributes:
        token_ids: of the new tokens.
        positions: log-probabilities of the new tokens, one entry for each, where they were asked for.
        finish_reason: as `Output.finish_reason`.
        stop_reason: as `Output.stop_reason`.
        cached_tokens: tokens of the prefix that were found in the prefix cache; None where the replica has not told yet.
        drafts: of the whole branch, on its last part.
        prompt_logprobs: in the engine's own form, where they were asked for.

    """

    token_ids: tuple[int, ...] = ()
    positions: tuple[Position, ...] = ()
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    cached_tokens: int | None = None
    drafts: Drafts = NO_DRAFTS
    prompt_logprobs: Any = None


@dataclass(frozen=True, slots=True)
class ReplicaCard:
    """What a replica tells of itself when it joins.

    Attributes:
        model: the name under which it serves the base model.
        version: of its engine.
        max_model_len: the most tokens of a prompt and its answer together.
        max_branches: sequences that it runs at the same time; None where it does not tell.
        adapter_slots: LoRA adapters that it holds at the same time; 0 for none.
        peak_flops: FLOPs a second of a large matrix product; None where it does not tell.
        frees_slots: whether an adapter that is unloaded leaves its slot for certain.
        losses: what it cannot do that an engine in this process can, each in a few words.
        reads_store: whether it takes URLs of a store of adapters, and not only paths.

    """

    model: str
    version: str
    max_model_len: int
    max_branches: int | None = None
    adapter_slots: int = 0
    peak_flops: float | None = None
    frees_slots: bool = False
    losses: tuple[str, ...] = ()
    reads_store: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What a replica counts of itself, all front ends together.

    Attributes:
        running: branches that it computes.
        waiting: branches that wait for it.
        generated: tokens that it has generated since its start.

    """

    running: int
    waiting: int
    generated: int


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica as operators see it.

    Attributes:
        name: its address.
        state: `joining`, `ready`, `failed`, `unfit` or `leaving`.
        reason: why it is not ready; empty where it is.
        card: what it told of itself when it joined last; None before.
        counted: what it counted of itself at the last probe, all front ends together.
        branches: that it generates for this server.
        adapters: that this server has loaded on it, by name and content.
        failures: how often it failed since it was found.

    """

    name: str
    state: str
    reason: str
    card: ReplicaCard | None
    counted: ReplicaLoad
    branches: int
    adapters: tuple[str, ...]
    failures: int


class Replica(Protocol):
    """One server of tokens. Its methods raise `ReplicaFailed` when it fails.

    Attributes:
        name: its address, without secrets.

    """

    name: str

    async def describe(self) -> ReplicaCard:
        """Return what it serves. Raises `ReplicaUnfit` where it cannot be used."""
        ...

    def generate(self, request: TokenRequest) -> AsyncIterator[TokenPart]:
        """Run one branch, and yield its parts. Closing the iterator ends the branch. Raises `RequestRefused`."""
        ...

    async def halt(self, ids: list[str]) -> None:
        """End these branches now. Each still yields a last part, with finish reason `abort`."""
        ...

    async def load(self) -> ReplicaLoad:
        """Return what it counts of itself. Raises `ReplicaFailed` where it is not healthy."""
        ...

    async def metrics(self) -> bytes:
        """Return its page of metrics in Prometheus' text format."""
        ...

    async def tokenize(self, text: str) -> tuple[int, ...] | None:
        """Return the token ids of a text by its own tokenizer, without special tokens; None where it does not tell."""
        ...

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load an adapter; raises `AdapterFailed` where it does not take it. Loading it again does nothing."""
        ...

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Remove an adapter, as far as the replica can."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...
