"""Swaps one adapter name a hundred times under full load: no request may fail, no answer be mixed or stale, no memory leak.

Sixteen clients request one name directly, as best-of-n and as a stream in turn, while the name is switched between two versions
whose answers differ in every word. The word of one version comes from what the prefix cache holds, that of the other from weights
that nothing caches. So both stale cache blocks and weights that change under a running answer show. The same load without swaps
runs before it, to measure the latency that swaps add.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks import load, servers
from benchmarks.report import Table
from benchmarks.swap_traffic import CLIENTS, NAME, WORDS, Name, Tally, under_load

CACHE_TOKENS = 2**30 // (30 * 2 * 3 * 64 * 2)
"""The tokens in one GiB of the embedded model's bfloat16 KV cache, from its layers, keys and values, heads, their width, and bytes."""


async def fill_cache(client: httpx.AsyncClient, num_tokens: int) -> None:
    """Use the whole KV cache once. The system hands out its pages at their first use, which would look like a leak."""
    words = 700  # of two tokens each, digits and a space
    for number in range(num_tokens // (2 * words) + 1):
        text = " ".join(str((number * words + word) % 10) for word in range(words))
        body = {"model": servers.MODEL, "messages": [{"role": "user", "content": f"{number}: {text}"}], "max_tokens": 1}
        (await client.post("/v1/chat/completions", json={**body, "ponder": {"strategy": "direct"}})).raise_for_status()


@dataclass
class Swaps:
    """What was measured of each swap.

    Attributes:
        seconds: of the swap.
        first_answer: the seconds from the request of the swap to the first answer of the new version.
        held: the number of adapters that the engine held after it.
        memory: the MiB of the server after it.

    """

    seconds: list[float] = field(default_factory=list)
    first_answer: list[float] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


async def swapping(
    server: servers.Server, *, swaps: int, requests: int, seconds: float, cache_tokens: int = 0
) -> dict[str, Any]:
    """Run the experiment on a running server, and return its figures and problems.

    Args:
        server: to measure.
        swaps: how often the name is switched.
        requests: the most requests under load.
        seconds: the longest duration of the load.
        cache_tokens: the tokens that fill the server's KV cache; 0 to leave it as it is.

    """
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=server.url, timeout=600, limits=limits) as client:
        name = Name(client)
        await fill_cache(client, cache_tokens)
        for word in WORDS:
            await name.push(word)
        calm = await under_load(client, name, requests=max(requests // 8, 3 * CLIENTS), seconds=seconds / 8)
        measured = Swaps()

        def is_due(done: int, elapsed: float) -> bool:
            """Whether the next swap is due: they are spread over the requests, or over the time if that is shorter."""
            share = (name.num_swaps + 1) / (swaps + 2)
            return done >= share * (requests - CLIENTS) or elapsed > share * seconds

        async def swap_on(num_done: Callable[[], int]) -> None:
            start = time.monotonic()
            while name.num_swaps < swaps:
                while not is_due(num_done(), time.monotonic() - start):  # noqa: ASYNC110 - precise enough
                    await asyncio.sleep(0.01)
                await _measure_swap(client, server, name, measured)

        start = time.monotonic()
        busy = await under_load(client, name, requests=requests, seconds=seconds, beside=swap_on)
        elapsed = time.monotonic() - start
        await asyncio.sleep(1)
        held_at_end = (await client.get("/v1/adapters")).json()["slots"]["held"]
        before = servers.memory_mib(server)
        for _ in range(swaps):  # without load, only swapping can make the memory grow
            await name.swap()
        growth = servers.memory_mib(server) - before
    memory = {f"memory MiB grown by {swaps} swaps at rest": round(growth, 1)}
    return {**_swap_figures(measured, busy, round(elapsed)), **memory, **_latency_figures(measured, calm, busy, held_at_end)}


async def _measure_swap(client: httpx.AsyncClient, server: servers.Server, name: Name, measured: Swaps) -> None:
    """Swap once, and send the first request to the new version."""
    begun = time.monotonic()
    measured.seconds.append(await name.swap())
    body = {"model": NAME, "messages": load.question(1), "max_tokens": 1}
    reply = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
    answered, active = reply["ponder"]["adapter"].split(":")[1], name.versions[WORDS[name.num_swaps % 2 == 0]][:8]
    if answered != active:
        raise RuntimeError(f"version {answered} answered after the swap to {active}")
    measured.first_answer.append(time.monotonic() - begun)
    measured.memory.append(servers.memory_mib(server))
    measured.held.append((await client.get("/v1/adapters")).json()["slots"]["held"])


def _swap_figures(measured: Swaps, busy: Tally, seconds: int) -> dict[str, Any]:
    tenth = min(10, len(measured.memory)) - 1
    return {
        "swaps": len(measured.seconds),
        "requests": len(busy.seconds),
        "seconds": seconds,
        "failed": len(busy.failed),
        "mixed": len(busy.mixed),
        "stale": len(busy.stale),
        "problems": (busy.failed + busy.mixed + busy.stale)[:5],
        "swap s p50": round(statistics.median(measured.seconds), 3),
        "first answer s p50": round(statistics.median(measured.first_answer), 3),
        "first answer s p99": round(_percentile(measured.first_answer, 0.99), 3),
        "memory MiB at 10": round(measured.memory[tenth]),
        "memory MiB at end": round(measured.memory[-1]),
    }


def _latency_figures(measured: Swaps, calm: Tally, busy: Tally, held_at_end: int) -> dict[str, Any]:
    return {
        "most held": max(measured.held),
        "held at end": held_at_end,
        "request s p50 calm": round(statistics.median(calm.seconds), 3),
        "request s p50 swaps": round(statistics.median(busy.seconds), 3),
        "request s p99 calm": round(_percentile(calm.seconds, 0.99), 3),
        "request s p99 swaps": round(_percentile(busy.seconds, 0.99), 3),
        "token gap ms p99 calm": round(1000 * _percentile(calm.gaps, 0.99)),
        "token gap ms p99 swaps": round(1000 * _percentile(busy.gaps, 0.99)),
    }


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(*, is_quick: bool) -> Table:
    """Measure one server."""
    table = Table("swaps", "One name swapped under 16 clients that mix direct, best-of-3 and streamed requests")
    with servers.ponder(kv_gib=1) as server:
        scale = (
            {"swaps": 10, "requests": 200, "seconds": 60.0} if is_quick else {"swaps": 100, "requests": 2000, "seconds": 600.0}
        )
        cache_tokens = 0 if is_quick else 6 * CACHE_TOKENS // 5
        figures = asyncio.run(swapping(server, **scale, cache_tokens=cache_tokens))
    table.rows = [{"what": key, "value": value} for key, value in figures.items() if key != "problems" or value]
    return table
