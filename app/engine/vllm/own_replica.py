"""The engine in this process as a replica: tokens in, tokens out, for front ends elsewhere.

It is to `VllmEngine` what vLLM's route for tokens is to vLLM's server, and answers the same.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

import vllm
from pydantic import TypeAdapter
from vllm import SamplingParams
from vllm.entrypoints.scale_out.token_in_token_out.mm_features import mm_kwargs_from_features
from vllm.entrypoints.scale_out.token_in_token_out.protocol import MultiModalFeatures
from vllm.inputs import mm_input
from vllm.inputs.engine import EngineInput, tokens_input
from vllm.multimodal.inputs import MultiModalKwargsItems, PlaceholderRange
from vllm.sampling_params import RequestOutputKind

from adapters.errors import AdapterFailed
from adapters.object_store import AdapterCache
from adapters.ports import EngineAdapter
from app.engine.replica import (
    Position,
    ReplicaCard,
    ReplicaFailed,
    ReplicaLoad,
    RequestFailed,
    RequestRefused,
    TokenPart,
    TokenRequest,
    UnknownAdapter,
)
from app.engine.vllm.arguments import engine_arguments
from app.engine.vllm.cpu_memory import local_ranks
from app.engine.vllm.engine import VllmEngine
from app.engine.vllm.errors import request_errors
from app.engine.vllm.lora import lora_request
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.outputs import drafts_of
from app.errors import EngineDead, InvalidRequest

SAMPLING = TypeAdapter(SamplingParams)
"""Checks sampling parameters in the types of JSON, as vLLM's route does."""


class VllmReplica:
    """A `Replica` over an engine that has been started.

    Adapters are known by their content. Two front ends may give one number to two of them, so each gets another number here.

    Args:
        name: see `Replica`.
        engine: that generates. Whoever made it closes it.
        cache: where adapters are found that are named by URLs; None where all are named by paths.

    """

    def __init__(self, name: str, engine: VllmEngine, cache: AdapterCache | None = None) -> None:
        self.name = name
        self._cache = cache
        self._engine = engine
        self._adapters: dict[str, EngineAdapter] = {}
        self._numbers = itertools.count(1)
        self._loading = asyncio.Lock()
        self._num_branches = 0
        self._num_generated = 0

    async def describe(self) -> ReplicaCard:
        """Return what it serves; see `Replica`."""
        card = self._engine.card
        return ReplicaCard(
            model=card.name,
            version=vllm.__version__,
            max_model_len=card.max_model_len,
            max_branches=card.max_branches,
            adapter_slots=card.adapter_slots,
            peak_flops=card.peak_flops,
            frees_slots=True,
            reads_store=self._cache is not None,
        )

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenPart]:
        """Run one branch; see `Replica`."""
        adapter = request.adapter and self._adapters.get(request.adapter.content)
        if request.adapter is not None and adapter is None:
            raise UnknownAdapter(request.adapter.name)
        self._num_branches += 1
        try:
            with _replica_errors():
                stream = self._engine.running().generate(
                    _input_of(request),
                    _sampling_of(request),
                    request.id,
                    lora_request=lora_request(adapter) if adapter else None,
                    priority=request.priority,
                    **request.gate,
                )
                async with aclosing(stream):
                    async for result in stream:
                        part = _part_of(result, request)
                        self._num_generated += len(part.token_ids)
                        yield part
        finally:
            self._num_branches -= 1

    async def halt(self, ids: list[str]) -> None:
        """End these branches; see `Replica`."""
        await self._engine.halt(ids)

    async def load(self) -> ReplicaLoad:
        """Return what it counts of itself; see `Replica`."""
        if (failure := self._engine.failure) is not None:
            raise ReplicaFailed(failure)
        running = min(self._num_branches, self._engine.card.max_branches)
        return ReplicaLoad(running, self._num_branches - running, self._num_generated)

    async def metrics(self) -> bytes:
        """Return vLLM's page of metrics."""
        return await self._engine.metrics(is_openmetrics=False)

    async def tokenize(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text; see `Replica`."""
        return self._engine.encode(text)

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load an adapter; see `Replica`."""
        async with self._loading:  # two front ends may load one adapter at the same time, and it shall take one slot
            if adapter.content in self._adapters:
                return
            path = await asyncio.to_thread(self._path_of, adapter)
            own = EngineAdapter(adapter.content, next(self._numbers), path, adapter.content)
            with _replica_errors():
                await self._engine.load_adapter(own)
            self._adapters[adapter.content] = own

    def _path_of(self, adapter: EngineAdapter) -> str:
        """Return the folder of an adapter. Raises `AdapterFailed` where its store cannot be read."""
        try:
            return str((self._cache and self._cache.find(adapter.path)) or adapter.path)
        except OSError as error:
            raise AdapterFailed(f"A replica cannot read it: {error}") from error

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Remove an adapter, and free its slot."""
        if (own := self._adapters.pop(adapter.content, None)) is not None:
            with _replica_errors():
                await self._engine.unload_adapter(own)

    async def close(self) -> None:
        """Do nothing."""


def on_one_machine(options: EngineOptions) -> EngineOptions:
    """Return options with which vLLM runs its workers as processes of its own.

    In a placement group of Ray, vLLM would choose Ray for them by itself.
    """
    arguments = engine_arguments(options)
    if local_ranks(arguments) == 1 or arguments.distributed_executor_backend is not None:
        return options
    return replace(options, engine_args=(*options.engine_args, "--distributed-executor-backend", "mp"))


@contextmanager
def _replica_errors() -> Iterator[None]:
    """Turn errors of the engine into those of a replica."""
    try:
        with request_errors():
            yield
    except InvalidRequest as error:
        raise RequestRefused(str(error)) from error
    except EngineDead as error:
        raise ReplicaFailed(str(error)) from error


def _sampling_of(request: TokenRequest) -> SamplingParams:
    sampling: SamplingParams = SAMPLING.validate_python(dict(request.sampling))
    sampling.output_kind = RequestOutputKind.DELTA if request.interval else RequestOutputKind.FINAL_ONLY
    if request.interval > 1:
        sampling.stream_interval = request.interval
    return sampling


def _input_of(request: TokenRequest) -> EngineInput:
    token_ids = list(request.token_ids)
    if request.features is None:
        return tokens_input(token_ids, cache_salt=request.cache_salt)
    features = MultiModalFeatures.model_validate(request.features)
    return mm_input(
        token_ids,
        MultiModalKwargsItems(mm_kwargs_from_features(features)),
        features.mm_hashes,
        {kind: [PlaceholderRange(one.offset, one.length) for one in ones] for kind, ones in features.mm_placeholders.items()},
        cache_salt=request.cache_salt,
    )


def _part_of(result: Any, request: TokenRequest) -> TokenPart:
    """Return what vLLM's `RequestOutput` tells. Raises `RequestFailed` where the engine failed at this branch alone."""
    [output] = result.outputs
    if output.finish_reason == "error":
        raise RequestFailed
    positions: tuple[Position, ...] = ()
    if output.logprobs:
        # vLLM gives the sampled token and the most probable ones. Its route returns so many in all as were asked for.
        most = None if request.sampling.get("logprob_token_ids") else max(request.sampling.get("logprobs") or 0, 1)
        rows = zip(output.token_ids, output.logprobs, strict=True)
        positions = tuple(_position(token, row)[:most] for token, row in rows)
    return TokenPart(
        token_ids=tuple(output.token_ids),
        positions=positions,
        finish_reason=output.finish_reason,
        stop_reason=output.stop_reason,
        cached_tokens=result.num_cached_tokens,
        drafts=drafts_of(output.spec_decode_metrics),
        prompt_logprobs=None if result.prompt_logprobs is None else [_prompt_position(one) for one in result.prompt_logprobs],
    )


def _position(token: int, row: Any) -> Position:
    return ((token, row[token].logprob), *((other, entry.logprob) for other, entry in row.items() if other != token))


def _prompt_position(row: Any) -> dict[str, dict[str, Any]] | None:
    """Return the log-probabilities at one token of a prompt in the form of vLLM's routes."""
    return row and {
        str(token): {"logprob": entry.logprob, "rank": entry.rank, "decoded_token": entry.decoded_token}
        for token, entry in row.items()
    }
