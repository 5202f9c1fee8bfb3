"""What a front end over replicas costs by itself: the remote engine with vLLM's renderer and tokenizer, over replicas that answer at once.

The replicas are in this process, so that nothing but the front end is measured, or behind HTTP in another process.
"""

import asyncio
import gc
import multiprocessing
import os
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import Any

import orjson
import uvloop
from aiohttp import web

from adapters.ports import EngineAdapter
from app.engine.build import engine_options
from app.engine.remote.options import FleetOptions
from app.engine.replica import ReplicaCard, ReplicaLoad, TokenPart, TokenRequest
from app.settings import Settings
from benchmarks.orchestration import drive
from benchmarks.report import Table

MODEL_LEN = 2048
ANSWER = " The answer is 42."


class InstantReplica:
    """A `Replica` in this process that gives every branch the same answer at once."""

    def __init__(self, name: str, token_ids: tuple[int, ...]) -> None:
        self.name = name
        self._token_ids = token_ids

    async def describe(self) -> ReplicaCard:
        return ReplicaCard("smollm2-135m", "scripted", MODEL_LEN, max_branches=256)

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenPart]:
        await asyncio.sleep(0)
        asked = request.sampling.get("logprob_token_ids", ())  # when it joins
        if asked:
            yield TokenPart(asked[:1], (((asked[0], -1.0),),), finish_reason="length", cached_tokens=0)
            return
        positions = tuple(((token, -0.1),) for token in self._token_ids) if "logprobs" in request.sampling else ()
        yield TokenPart(self._token_ids, positions, finish_reason="stop", cached_tokens=0)

    async def halt(self, ids: list[str]) -> None: ...

    async def load(self) -> ReplicaLoad:
        return ReplicaLoad(0, 0, 0)

    async def metrics(self) -> bytes:
        return b""

    async def tokenize(self, text: str) -> None: ...

    async def load_adapter(self, adapter: EngineAdapter) -> None: ...

    async def unload_adapter(self, adapter: EngineAdapter) -> None: ...

    async def close(self) -> None: ...


def run(*, is_quick: bool) -> Table:
    """Measure branches per second of one front end on one core, from the request to its account, without the HTTP of its callers."""
    table = Table("front_end", "A front end alone, on one core, over two replicas that answer at once")
    first, *rest = sorted(os.sched_getaffinity(0))
    token_ids = _token_ids()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, token_ids, rest or [first]), daemon=True
    )
    process.start()
    ports = ours.recv()
    os.sched_setaffinity(0, {first})
    try:
        for where, urls in (("in this process", (_url(1), _url(2))), ("over HTTP", tuple(map(_url, ports)))):
            for strategy, parameters in (("direct", {}), ("self_consistency", {"n": 16, "confidence": 1.0})):
                num = 2000 if is_quick else 20_000
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    drawn, elapsed = runner.run(
                        _measure(urls, token_ids, strategy, parameters, num, is_inside="process" in where)
                    )
                table.rows.append(
                    {
                        "replicas": where,
                        "strategy": strategy + (" of 16" if parameters else ""),
                        "branches/s": round(drawn / elapsed),
                        "us/branch": round(1e6 * elapsed / drawn),
                    }
                )
    finally:
        process.terminate()
    return table


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _options() -> Any:
    return engine_options(Settings(adapter_slots=0, max_model_len=MODEL_LEN))


def _token_ids() -> tuple[int, ...]:
    """Return the answer in the model's tokens, with its end."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import

    tokenizer = AutoTokenizer.from_pretrained(_options().model)
    return (*tokenizer.encode(ANSWER), tokenizer.eos_token_id)


async def _measure(
    urls: tuple[str, ...], token_ids: tuple[int, ...], strategy: str, parameters: dict[str, Any], num: int, *, is_inside: bool
) -> tuple[int, float]:
    from app.engine.remote.engine import RemoteEngine  # noqa: PLC0415 - vLLM reads the environment that `engine_options` prepares
    from app.engine.remote.vllm_server import VllmServer  # noqa: PLC0415

    def connect(url: str) -> Any:
        return InstantReplica(url, token_ids) if is_inside else VllmServer(url, ("smollm2-135m",))

    engine = RemoteEngine(_options(), FleetOptions(urls=urls, max_branches=256), connect)
    await engine.start()
    try:
        await engine.fleet.wait_until(lambda: len(engine.fleet.ready) == len(urls), 60)
        await drive(strategy, parameters, num // 10, engine=engine)
        gc.collect()
        gc.freeze()  # as `ponder serve` does
        return await drive(strategy, parameters, num, engine=engine)
    finally:
        await engine.close()


def _serve(pipe: Connection, token_ids: tuple[int, ...], processors: list[int]) -> None:
    """Serve two replicas that answer as vLLM's server does, until the process is ended."""
    os.sched_setaffinity(0, processors)
    uvloop.run(_serve_two(pipe, token_ids))


async def _serve_two(pipe: Connection, token_ids: tuple[int, ...]) -> None:
    choice = {"index": 0, "token_ids": list(token_ids), "finish_reason": "stop"}
    usage = {"usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0}}, "choices": []}
    content = [{"token_id": token, "logprob": -0.1, "top_logprobs": []} for token in token_ids]
    streamed = {
        has_logprobs: b"".join(
            b"data: " + data + b"\n\n" for data in (orjson.dumps({"choices": [choice | more]}), orjson.dumps(usage), b"[DONE]")
        )
        for has_logprobs, more in ((False, {}), (True, {"logprobs": {"content": content}}))
    }

    async def generate(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        if body["stream"]:
            has_logprobs = "logprobs" in body["sampling_params"]
            return web.Response(body=streamed[has_logprobs], content_type="text/event-stream")
        [token, _] = body["sampling_params"]["logprob_token_ids"]  # it joins
        scored = {"content": [{"token_id": token, "logprob": -1.0, "top_logprobs": []}]}
        return web.json_response({"choices": [{**choice, "token_ids": [token], "logprobs": scored}], "usage": usage["usage"]})

    app = web.Application()
    app.router.add_get("/health", _nothing)
    app.router.add_get("/version", _nothing)
    app.router.add_get("/metrics", _nothing)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/inference/v1/abort_requests", _nothing)
    app.router.add_post("/inference/v1/generate", generate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sites = [web.TCPSite(runner, "127.0.0.1", 0) for _ in range(2)]
    for site in sites:
        await site.start()
    pipe.send([address[1] for address in runner.addresses])
    await asyncio.Event().wait()


async def _nothing(_request: web.Request) -> web.Response:
    return web.json_response({})


async def _models(_request: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "smollm2-135m", "max_model_len": MODEL_LEN}]})
