"""A replica in this process, for tests of what stands in front of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.replica import ReplicaCard, ReplicaFailed, ReplicaLoad, TokenPart, TokenRequest

PAGE = b"""\
# HELP python_info Of the interpreter.
# TYPE python_info gauge
python_info{major="3"} 1.0
# HELP vllm:generation_tokens_total Number of tokens.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 12.0
# HELP vllm:plain Without labels.
# TYPE vllm:plain gauge
vllm:plain 1.5
"""


@dataclass(eq=False)
class FakeReplica:
    """A replica in this process. It generates the tokens 0, 1, 2, …; the test says when it fails, and how.

    Attributes:
        unfit: what `describe` raises; None for nothing.
        failure: what all else raises; None for nothing.
        refuses: contents of adapters that it does not take.
        adapters: contents of those that it holds.
        requests: that it was given.
        halted: ids of branches that were ended.
        pauses: whether it stops before each token until it fails or the branch is halted.
        seconds_per_token: of each branch.

    """

    name: str
    unfit: Exception | None = None
    failure: Exception | None = None
    refuses: set[str] = field(default_factory=set)
    adapters: set[str] = field(default_factory=set)
    requests: list[TokenRequest] = field(default_factory=list)
    halted: set[str] = field(default_factory=set)
    pauses: bool = False
    running: int = 0
    generated: int = 0
    is_closed: bool = False
    seconds_per_token: float = 0.0

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def describe(self) -> ReplicaCard:
        self._check()
        if self.unfit is not None:
            raise self.unfit
        return ReplicaCard("m", "0.32.0", max_model_len=100, max_branches=4, adapter_slots=2)

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenPart]:
        self.requests.append(request)
        self.running += 1
        try:
            for number in range(request.sampling["max_tokens"]):
                while self.pauses and self.failure is None and request.id not in self.halted:  # noqa: ASYNC110 - of many kinds
                    await asyncio.sleep(0.001)
                self._check()
                if request.id in self.halted:
                    yield TokenPart(finish_reason="abort", cached_tokens=0)
                    return
                self.generated += 1
                yield TokenPart((number,), (((number, -1.0),),))
                await asyncio.sleep(self.seconds_per_token)
            yield TokenPart(finish_reason="length", cached_tokens=1)
        finally:
            self.running -= 1

    async def halt(self, ids: list[str]) -> None:
        self._check()
        self.halted.update(ids)

    async def load(self) -> ReplicaLoad:
        self._check()
        return ReplicaLoad(self.running, 0, self.generated)

    async def metrics(self) -> bytes:
        self._check()
        return PAGE

    async def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        self._check()
        if adapter.content in self.refuses:
            raise AdapterFailed("No.")
        self.adapters.add(adapter.content)

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        self._check()
        self.adapters.discard(adapter.content)

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def lost() -> ReplicaFailed:
    """What a replica raises whose process was killed."""
    return ReplicaFailed("connection reset")


@pytest.fixture
def fake_replica():
    """`fake_replica(name, **attributes)`: a replica in this process."""
    return FakeReplica
