"""What a replica on Ray costs: the same engine in the server's own process, and in an actor on the same processors, in turn."""

import asyncio

from benchmarks import servers
from benchmarks.replicas import compare
from benchmarks.report import Table


def run(*, is_quick: bool) -> Table:
    """Measure both in turn, as `benchmarks.replicas` does."""
    return asyncio.run(_measure(rounds=2 if is_quick else 6))


async def _measure(rounds: int) -> Table:
    table = Table("on_ray", "The engine in a replica on Ray against the engine in process (medians of rounds, paired)")
    with (
        servers.ponder("--adapter-slots", "0", name="in process") as inside,
        servers.ponder("--adapter-slots", "0", "--ray", name="on Ray") as over,
    ):
        await compare(table, inside, over, rounds)
    return table
