"""Swaps one adapter name a hundred times under full load: no request may fail, no answer be mixed or stale, no memory leak.

Sixteen clients request one name directly, as best-of-n and as a stream in turn, while the name is switched between two versions
whose answers differ in every word. The word of one version comes from what the prefix cache holds, that of the other from weights
that nothing caches. So both stale cache blocks and weights that change under a running answer are seen. The same load without swaps
runs before it, to measure the latency that swaps add.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks import load, servers
from benchmarks.report import Table

ADAPTERS = Path(__file__).parent.parent / "tests" / "data" / "adapters"
WORDS = ("red", "green")
NAME = "colour"
CLIENTS = 16
TOKENS = 16
CACHE_TOKENS = 2**30 // (30 * 2 * 3 * 64 * 2)
"""The tokens in one GiB of the embedded model's bfloat16 KV cache, from its layers, keys and values, heads, their width, and bytes."""


@dataclass
class Tally:
    """What was observed of the answers.

    Attributes:
        failed: the errors of requests.
        mixed: answers with words of both versions, or of none.
        stale: answers of a version that had been replaced before the request was sent.
        seconds: of each request.
        gaps: the seconds between the tokens of streams.

    """

    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


class Name:
    """The adapter name that is swapped. It knows which words an answer to a request of some time may have."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.versions: dict[str, str] = {}
        self._started: list[tuple[float, str]] = []
        self._switched: list[tuple[float, str]] = []

    async def push(self, word: str) -> None:
        """Upload the version that answers with `word`."""
        files = [("files", (path.name, path.read_bytes())) for path in sorted((ADAPTERS / word).iterdir())]
        response = await self._client.post("/v1/adapters", data={"name": NAME}, files=files)
        self.versions[word] = response.raise_for_status().json()["version"]
        self._switched.append((time.monotonic(), word))

    @property
    def num_swaps(self) -> int:
        """The number of swaps that were requested."""
        return len(self._started)

    async def swap(self) -> float:
        """Switch to the other version, and return the seconds that it took."""
        word = WORDS[self._switched[-1][1] == WORDS[0]]
        start = time.monotonic()
        self._started.append((start, word))
        response = await self._client.post(f"/v1/adapters/{NAME}/activate", json={"version": self.versions[word]})
        response.raise_for_status()
        self._switched.append((time.monotonic(), word))
        return time.monotonic() - start

    def allowed(self, begun: float) -> set[str]:
        """Return the word of the version that was active when the request was sent, and those of later swaps."""
        switched = [word for moment, word in self._switched if moment <= begun]
        done = max(moment for moment, _ in self._switched if moment <= begun)
        return {switched[-1], *(word for moment, word in self._started if moment > done - 1e-9)}


def check(text: str, name: Name, begun: float, tally: Tally) -> None:
    """Record an answer that is mixed, or of a version that had been replaced before the request was sent."""
    words = set(text.split())
    if len(words) != 1 or not words <= set(WORDS):
        tally.mixed.append(text)
    elif not words <= name.allowed(begun):
        tally.stale.append(text)


async def send(client: httpx.AsyncClient, serial: int, name: Name, tally: Tally) -> None:
    """Send one request: direct, best-of-n or a stream, in turn."""
    begun = time.monotonic()
    body: dict[str, Any] = {"model": NAME, "messages": load.question(serial % 40), "max_tokens": TOKENS, "temperature": 0.7}
    try:
        if serial % 3 == 0:
            text = await _streamed(client, body, tally)
            check(text, name, begun, tally)
        else:
            strategy = (
                {"strategy": "best_of_n", "n": 3, "verifier": "likelihood"} if serial % 3 == 1 else {"strategy": "direct"}
            )
            response = await client.post("/v1/chat/completions", json={**body, "ponder": strategy})
            reply = response.raise_for_status().json()
            check(reply["choices"][0]["message"]["content"], name, begun, tally)
    except (httpx.HTTPError, KeyError, IndexError) as error:
        tally.failed.append(f"{type(error).__name__}: {error}")
    tally.seconds.append(time.monotonic() - begun)


async def _streamed(client: httpx.AsyncClient, body: dict[str, Any], tally: Tally) -> str:
    parts: list[str] = []
    last = 0.0
    async with client.stream(
        "POST", "/v1/chat/completions", json={**body, "stream": True, "ponder": {"strategy": "direct"}}
    ) as response:
        response.raise_for_status()
        async for piece in load.contents(response):
            now = time.monotonic()
            if last:
                tally.gaps.append(now - last)
            parts.append(piece)
            last = now
    return "".join(parts)


async def under_load(
    client: httpx.AsyncClient,
    name: Name,
    *,
    requests: int,
    seconds: float,
    beside: Callable[[Callable[[], int]], Awaitable[None]] | None = None,
) -> Tally:
    """Run sixteen clients until so many requests or seconds. `beside` runs with them and can ask how many requests are done."""
    tally, start, serial = Tally(), time.monotonic(), iter(range(10**9))

    async def one_client() -> None:
        while len(tally.seconds) + CLIENTS <= requests and time.monotonic() - start < seconds:
            await send(client, next(serial), name, tally)

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(one_client()) for _ in range(CLIENTS)]
        if beside is not None:
            swapper = group.create_task(beside(lambda: len(tally.seconds)))  # type: ignore[arg-type]
            await asyncio.wait(clients)
            swapper.cancel()
    return tally


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
