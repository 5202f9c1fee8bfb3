"""A load generator: it sends requests, reads streams, and measures the time to the first token."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from benchmarks.servers import MODEL, Server


@dataclass(frozen=True)
class Run:
    """What many requests came to together.

    Attributes:
        tokens_per_second: of all requests.
        first_token: the median time to the first token, in seconds.
        total: the seconds until the last request ended.

    """

    tokens_per_second: float
    first_token: float
    total: float


def question(serial: int) -> list[dict[str, str]]:
    """Return a prompt that no other request has, so that only the chat template is in the prefix cache."""
    return [{"role": "user", "content": f"Story {serial}: tell me about the number {serial * 7919 % 1000}."}]


async def stream(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[float, float, int]:
    """Return the seconds to the first token, the seconds in all, and the number of chunks with content."""
    start = time.perf_counter()
    first, chunks = 0.0, 0
    async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
        response.raise_for_status()
        async for _ in contents(response):
            chunks += 1
            first = first or time.perf_counter() - start
    return first, time.perf_counter() - start, chunks


async def contents(response: httpx.Response) -> AsyncIterator[str]:
    """Yield the pieces of a streamed answer; raises `httpx.RemoteProtocolError` for an error in the stream."""
    async for line in response.aiter_lines():
        if line.startswith("data: {"):
            chunk = orjson.loads(line[6:])
            if "error" in chunk:
                raise httpx.RemoteProtocolError(chunk["error"]["message"])
            if chunk["choices"] and (content := chunk["choices"][0]["delta"].get("content")):
                yield content


async def direct(
    server: Server, concurrency: int, num_requests: int, max_tokens: int, serial: int, *, models: Sequence[str] = (MODEL,)
) -> Run:
    """Stream `num_requests` chats of exactly `max_tokens` tokens, `concurrency` at a time, to each of `models` in turn."""
    body = {"max_tokens": max_tokens, "ignore_eos": True, "temperature": 0.7}
    gate = asyncio.Semaphore(concurrency)

    async def one(number: int) -> tuple[float, float, int]:
        async with gate:
            fields = {"model": models[number % len(models)], "messages": question(serial + number), "seed": serial + number}
            return await stream(client, {**body, **fields})

    async with httpx.AsyncClient(base_url=server.url, timeout=600, limits=httpx.Limits(max_connections=256)) as client:
        start = time.perf_counter()
        results = await asyncio.gather(*(one(number) for number in range(num_requests)))
        elapsed = time.perf_counter() - start
    return Run(num_requests * max_tokens / elapsed, statistics.median(first for first, _, _ in results), elapsed)


async def warm_up(*servers: Server) -> None:
    """Send some requests that are not measured: the first ones pay for what is allocated once."""
    for server in servers:
        await direct(server, 8, 8, 16, 0)


async def chat(server: Server, **fields: Any) -> tuple[dict[str, Any], float]:
    """Return the reply to one request that is not streamed, and the seconds that it took."""
    async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:
        start = time.perf_counter()
        response = await client.post("/v1/chat/completions", json={"model": MODEL, **fields})
        response.raise_for_status()
        return response.json(), time.perf_counter() - start
