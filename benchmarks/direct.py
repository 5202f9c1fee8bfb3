"""Direct requests on ponder and on vLLM's own server: throughput and time to first token, measured in turn."""

import asyncio
import statistics
from typing import Any

from benchmarks import load, servers
from benchmarks.report import Table

TOKENS = 48


def run(*, is_quick: bool) -> Table:
    """Measure all servers in turn, each round in another order. Ratios and differences are taken within a round.

    vLLM's server runs without LoRA, so ponder without adapter slots is its counterpart. Ponder with its default slots, which stay
    empty here, shows what the slots cost.
    """
    return asyncio.run(_measure(rounds=2 if is_quick else 7))


async def _measure(rounds: int) -> Table:
    table = Table("direct", "Direct requests, ponder against vLLM's own server (medians of rounds, paired)")
    with (
        servers.ponder("--adapter-slots", "0", name="no slots") as bare,
        servers.ponder(name="8 idle adapter slots") as default,
        servers.vllm() as theirs,
    ):
        await load.warm_up(bare, default, theirs)
        for concurrency in (1, 8, 32):
            table.rows += await _at(concurrency, rounds, (bare, default, theirs))
    return table


async def _at(concurrency: int, rounds: int, competitors: tuple[servers.Server, ...]) -> list[dict[str, Any]]:
    runs: dict[str, list[load.Run]] = {server.name: [] for server in competitors}
    for number in range(rounds):
        first = number % len(competitors)
        for server in (*competitors[first:], *competitors[:first]):
            serial = 1000 * (number + 1) + 100_000 * concurrency
            runs[server.name].append(await load.direct(server, concurrency, max(4, 2 * concurrency), TOKENS, serial))
    theirs = runs.pop("vllm")
    return [_row(concurrency, name, list(zip(ours, theirs, strict=True))) for name, ours in runs.items()]


def _row(concurrency: int, name: str, pairs: list[tuple[load.Run, load.Run]]) -> dict[str, Any]:
    return {
        "concurrency": concurrency,
        "ponder with": name,
        "ponder tokens/s": round(statistics.median(a.tokens_per_second for a, _ in pairs), 1),
        "vLLM tokens/s": round(statistics.median(b.tokens_per_second for _, b in pairs), 1),
        "throughput ratio": round(statistics.median(a.tokens_per_second / b.tokens_per_second for a, b in pairs), 3),
        "ponder first token ms": round(1000 * statistics.median(a.first_token for a, _ in pairs), 1),
        "vLLM first token ms": round(1000 * statistics.median(b.first_token for _, b in pairs), 1),
        "difference ms": round(1000 * statistics.median(a.first_token - b.first_token for a, b in pairs), 1),
    }
