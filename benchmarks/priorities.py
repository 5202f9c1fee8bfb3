"""The time to first token of a direct request while best-of-16 requests fill the engine, with and without priorities."""

import asyncio
import statistics
from typing import Any

import httpx

from benchmarks import load, servers
from benchmarks.report import Table

WIDE_REQUESTS = 8


def run(*, is_quick: bool) -> Table:
    """Measure one server after the other, each first with an idle engine."""
    return asyncio.run(_measure(4 if is_quick else 10))


async def _measure(probes: int) -> Table:
    table = Table("priorities", "Time to first token of a direct request, ms")
    for name, arguments in (("with priorities", ()), ("without", ("--no-priorities",))):
        with servers.ponder(*arguments) as server:
            await load.warm_up(server)
            idle = [await _probe(server, number) for number in range(probes)]
            async with asyncio.TaskGroup() as group:
                wide = [group.create_task(_keep_full(server, number)) for number in range(WIDE_REQUESTS)]
                await asyncio.sleep(3)
                # one a second without waiting for each other, since each takes half a minute behind a full queue
                busy = await asyncio.gather(*(_probe(server, 1000 + number, after=number) for number in range(probes)))
                for task in wide:
                    task.cancel()
        table.rows.append({"server": name, **_row("idle", idle), **_row("full", busy)})
    return table


def _row(name: str, seconds: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {f"{name} p50": round(1000 * statistics.median(seconds)), f"{name} p95": round(1000 * p95)}


async def _probe(server: servers.Server, number: int, after: float = 0) -> float:
    await asyncio.sleep(after)
    body = {"model": servers.MODEL, "messages": load.question(number), "max_tokens": 4, "ponder": {"strategy": "direct"}}
    async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:
        first, _, _ = await load.stream(client, body)
    return first


async def _keep_full(server: servers.Server, number: int) -> None:
    """Send best-of-16 requests of 128 tokens, one after the other, until cancelled."""
    serial = 0
    while True:
        serial += 1
        await load.chat(
            server,
            messages=load.question(10_000 * (number + 1) + serial),
            max_tokens=128,
            ignore_eos=True,
            ponder={"strategy": "best_of_n", "n": 16, "verifier": "likelihood"},
        )
