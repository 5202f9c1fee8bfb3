"""Direct requests against vLLM's own server: throughput and time to first token, interleaved."""

import asyncio
import statistics
from typing import Any

from benchmarks import load, servers
from benchmarks.report import Table

TOKENS = 48


def run(*, is_quick: bool) -> Table:
    """Rounds of both in turn, whoever is first changing each round; the ratio and the difference are taken round by round."""
    return asyncio.run(_measure(rounds=3 if is_quick else 9))


async def _measure(rounds: int) -> Table:
    table = Table("direct", "Direct requests, ponder against vLLM's own server (medians of rounds, paired)")
    with servers.ponder() as ours, servers.vllm() as theirs:
        await load.warm_up(ours, theirs)
        for concurrency in (1, 8, 32):
            table.rows.append(await _at(concurrency, rounds, ours, theirs))
    return table


async def _at(concurrency: int, rounds: int, ours: servers.Server, theirs: servers.Server) -> dict[str, Any]:
    pairs = []
    for number in range(rounds):
        runs = {}
        for server in (ours, theirs) if number % 2 else (theirs, ours):
            serial = 1000 * (number + 1) + 100_000 * concurrency
            runs[server.name] = await load.direct(server, concurrency, max(4, 2 * concurrency), TOKENS, serial)
        pairs.append((runs["ponder"], runs["vllm"]))
    return {
        "concurrency": concurrency,
        "ponder tokens/s": round(statistics.median(a.tokens_per_second for a, _ in pairs), 1),
        "vLLM tokens/s": round(statistics.median(b.tokens_per_second for _, b in pairs), 1),
        "throughput ratio": round(statistics.median(a.tokens_per_second / b.tokens_per_second for a, b in pairs), 3),
        "ponder first token ms": round(1000 * statistics.median(a.first_token for a, _ in pairs), 1),
        "vLLM first token ms": round(1000 * statistics.median(b.first_token for _, b in pairs), 1),
        "difference ms": round(1000 * statistics.median(a.first_token - b.first_token for a, b in pairs), 1),
    }
