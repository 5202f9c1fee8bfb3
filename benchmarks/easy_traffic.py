"""What `auto` costs on easy questions, which need no search: its throughput against that of direct answers."""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from benchmarks import load, servers
from benchmarks.policy_questions import SPLITS
from benchmarks.report import Table
from benchmarks.suite.families import FAMILIES
from benchmarks.suite.questions import MAX_TOKENS, Example, examples

EASY = (("calendar_arithmetic", 2), ("count_bits", 2), ("time_intervals", 2))
"""Settings of which nine of ten direct answers of the shipped adapter are right."""

CONCURRENCY = 16
EACH = 25
"""The number of questions of each family in a round."""

WAYS: Mapping[str, dict[str, Any]] = {
    "direct": {"temperature": 0, "ponder": {"strategy": "direct"}},
    "auto, low": {"ponder": {"strategy": "auto", "effort": "low"}},
    "auto, medium": {"ponder": {"strategy": "auto", "effort": "medium"}},
    "auto, high": {"ponder": {"strategy": "auto", "effort": "high"}},
}


def run(*, is_quick: bool) -> Table:
    """Measure all ways in turn. Each measurement has questions that no model was trained on and no earlier one had."""
    rounds = 1 if is_quick else 3
    _, count, skip = SPLITS["fit"]
    known, wanted = skip + count, EACH * rounds * len(WAYS)
    drawn = [examples(family, number, "train", known + wanted)[known:] for family, number in EASY]
    blocks = [[one for part in parts for one in part] for parts in zip(*(_parts(one) for one in drawn), strict=True)]
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    with servers.ponder("--shipped-adapters", name="easy traffic") as server:
        asyncio.run(load.warm_up(server))
        for number in range(rounds):
            ways = list(WAYS)[number:] + list(WAYS)[:number]
            for way in ways:
                speeds[way].append(asyncio.run(_requests_per_second(server, WAYS[way], blocks.pop())))
    table = Table("easy_traffic", f"Easy questions, {CONCURRENCY} at a time (medians of rounds)")
    for way, found in speeds.items():
        ratio = statistics.median(one / other for one, other in zip(found, speeds["direct"], strict=True))
        table.rows.append({"way": way, "requests/s": round(statistics.median(found), 2), "ratio": round(ratio, 2)})
    return table


def _parts(drawn: Sequence[Example]) -> list[Sequence[Example]]:
    return [drawn[start : start + EACH] for start in range(0, len(drawn) - EACH + 1, EACH)]


async def _requests_per_second(server: servers.Server, fields: dict[str, Any], questions: Sequence[Example]) -> float:
    """Return the rate at which requests are answered while `CONCURRENCY` of them run: each answer starts the next question.

    The end of a round, when fewer run, does not count: there a server with longer requests would wait for the last of them alone.
    """
    gate = asyncio.Semaphore(CONCURRENCY)
    started = start = 0.0

    async def one(question: Example) -> None:
        nonlocal started
        messages = [{"role": "user", "content": question.prompt}]
        body = {"model": "reasoning", "messages": messages, "max_tokens": MAX_TOKENS, **fields}
        body["ponder"] = {**fields["ponder"], "answer": FAMILIES[question.family].kind.served_as}
        async with gate:
            started = time.perf_counter()
            (await client.post("/v1/chat/completions", json=body)).raise_for_status()

    async with httpx.AsyncClient(base_url=server.url, timeout=600, limits=httpx.Limits(max_connections=256)) as client:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for question in questions:
                group.create_task(one(question))
        return (len(questions) - CONCURRENCY) / (started - start)
