"""Replicas for tests of the fleet: one in this process, and a server on a socket that answers as vLLM's does, or as it should not."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

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
                await asyncio.sleep(0)
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


class FakeServer:
    """A server that answers as `vllm serve` does. `routes` replaces single answers.

    Attributes:
        bodies: of the branches that were asked for.
        aborted: ids that were aborted.

    """

    def __init__(self) -> None:
        self.routes: dict[str, object] = {
            "/health": web.json_response,
            "/version": {"version": "0.32.0"},
            "/v1/models": {"data": [{"id": "m", "root": "/m", "parent": None, "max_model_len": 2048}]},
            "/metrics": METRICS,
            "/tokenize": {"tokens": [1, 2, 3]},
            "/inference/v1/generate": self._generate,
            "/inference/v1/abort_requests": self._abort,
            "/v1/load_lora_adapter": self._load_adapter,
        }
        self.bodies: list[dict] = []
        self.headers: list = []
        self.peers: set = set()
        self.aborted: list[str] = []
        self.adapters: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        found = self.routes.get(request.path)
        self.headers.append(request.headers.copy())
        self.peers.add(request.transport.get_extra_info("peername"))
        if found is None:
            return web.json_response({"detail": "Not Found"}, status=404)
        if isinstance(found, int):
            return web.json_response({"error": {"message": "no"}}, status=found)
        if isinstance(found, bytes):
            return web.Response(body=found)
        if isinstance(found, str):
            return web.Response(text=found)
        if isinstance(found, dict | list):
            return web.json_response(found)
        return web.json_response({}) if found is web.json_response else await found(request)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 2}}
        choice = {"index": 0, "token_ids": [7, 8], "finish_reason": "length"}
        if not body["stream"]:
            return web.json_response({"choices": [choice], "usage": usage, "prompt_logprobs": [None]})
        response = web.StreamResponse()
        await response.prepare(request)
        for event in (
            {"choices": [{"index": 0, "token_ids": [7]}]},
            {"choices": [{"index": 0, "token_ids": [8], "finish_reason": "length"}]},
            {"choices": [], "usage": usage},
        ):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _abort(self, request: web.Request) -> web.StreamResponse:
        self.aborted += (await request.json())["request_ids"]
        return web.Response()

    async def _load_adapter(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = body.get("lora_name")
        if not name or name in self.adapters:
            return web.json_response({"error": {"message": f"The lora adapter '{name}' has already been loaded."}}, status=400)
        if body["lora_path"] == "/gone":
            return web.json_response({"error": {"message": "No adapter found for /gone"}}, status=404)
        self.adapters[name] = body["lora_path"]
        return web.Response(text="Success")


METRICS = """\
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:generation_tokens_total{engine="0",model_name="m"} 1234.0
vllm:lora_requests_info{max_lora="8",running_lora_adapters="",waiting_lora_adapters=""} 1.0
"""


@pytest.fixture
async def fake():
    """A fake server with its URL, as `fake.url`."""
    server = FakeServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
def fake_replica():
    """`fake_replica(name, **attributes)`: a replica in this process."""
    return FakeReplica
