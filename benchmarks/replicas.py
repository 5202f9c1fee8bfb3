"""What a replica costs: the same engine in the server's own process, and behind vLLM's server on the same processors, in turn."""

import asyncio
import statistics
from typing import Any

from benchmarks import load, servers
from benchmarks.report import Table

BRANCHES, TOKENS = 32, 64

_Pair = tuple[load.Run, load.Run, float]


def run(*, is_quick: bool) -> Table:
    """Measure both in turn, each round in the other order. Ratios and differences are taken within a round."""
    return asyncio.run(_measure(rounds=2 if is_quick else 6))


async def _measure(rounds: int) -> Table:
    table = Table("replicas", "The engine behind a replica against the engine in process (medians of rounds, paired)")
    with (
        servers.ponder("--adapter-slots", "0", name="in process") as inside,
        servers.vllm() as replica,
        servers.ponder("--adapter-slots", "0", "--replica", replica.url, name="one replica") as over,
    ):
        await compare(table, inside, over, rounds)
    return table


async def compare(table: Table, inside: servers.Server, over: servers.Server, rounds: int) -> None:
    """Measure a server in whose process the engine is, and one in front of a replica, and add rows to the table."""
    await load.warm_up(inside, over)
    for what, measure in (("32 streams", _streams), ("a vote of 32", _vote)):
        pairs = [await _pair(measure, inside, over, number) for number in range(rounds)]
        table.rows.append(_row(what, pairs))
    pairs = [await _pair(_alone, inside, over, number) for number in range(3 * rounds)]
    table.rows.append(_row("one stream alone", pairs))


async def _pair(measure: Any, inside: servers.Server, over: servers.Server, number: int) -> _Pair:
    """Measure both, and the processor time that the front end takes for a token, in microseconds."""
    order = (inside, over) if number % 2 else (over, inside)
    spent = {}
    runs = {}
    for server in order:
        before = servers.processor_seconds(server)
        runs[server.name] = await measure(server, number)
        spent[server.name] = servers.processor_seconds(server) - before
    run = runs[over.name]
    return runs[inside.name], run, 1e6 * spent[over.name] / (run.tokens_per_second * run.total)


async def _streams(server: servers.Server, number: int) -> load.Run:
    return await load.direct(server, BRANCHES, BRANCHES, TOKENS, 1000 * (number + 1))


async def _alone(server: servers.Server, number: int) -> load.Run:
    return await load.direct(server, 1, 4, 8, 100_000 + 100 * number)


async def _vote(server: servers.Server, number: int) -> load.Run:
    fields = {"max_tokens": TOKENS, "ignore_eos": True, "temperature": 0.7, "messages": load.question(50_000 + number)}
    plan = {"strategy": "best_of_n", "n": BRANCHES, "verifier": "likelihood"}
    _, seconds = await load.chat(server, ponder=plan, **fields)
    return load.Run(BRANCHES * TOKENS / seconds, 0.0, seconds)


def _row(what: str, pairs: list[_Pair]) -> dict[str, Any]:
    return {
        "load": what,
        "in process tokens/s": round(statistics.median(a.tokens_per_second for a, _, _ in pairs), 1),
        "replica tokens/s": round(statistics.median(b.tokens_per_second for _, b, _ in pairs), 1),
        "ratio": round(statistics.median(b.tokens_per_second / a.tokens_per_second for a, b, _ in pairs), 3),
        "in process first token ms": round(1000 * statistics.median(a.first_token for a, _, _ in pairs), 1),
        "difference ms": round(1000 * statistics.median(b.first_token - a.first_token for a, b, _ in pairs), 1),
        "front end us/token": round(statistics.median(spent for _, _, spent in pairs)),
    }
