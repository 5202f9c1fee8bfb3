"""A hundred replicas and ten thousand requests a second, simulated: the real placement of several front ends, over replicas of arithmetic.

Each request has one of a thousand system prompts, chosen by Zipf's law, and a question of its own. A front end knows its own branches at
once, and those of others as they were at the last probe, a second ago at most.
"""

import heapq
import itertools
import random
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from app.engine.base import Branch, Prompt
from app.engine.remote.fleet import PROBE_S
from app.engine.remote.placement import Placement
from benchmarks.report import Table

REPLICAS, RATE = 100, 10_000
SYSTEM_PROMPTS, SYSTEM_TOKENS, QUESTION_TOKENS = 1000, 512, 128
VOTE_SHARE, VOTE = 0.1, 8
BRANCH_S = (0.5, 1.5)
"""Seconds that a branch takes, uniformly distributed: 50 tokens at the speed of a busy engine."""

CACHED_PROMPTS = 150
"""System prompts that the prefix cache of a replica holds, of 512 tokens each; questions and answers need the rest of its memory."""


@dataclass(eq=False)
class _Replica:
    name: str
    branches: int = 0
    cache: "OrderedDict[int, None]" = field(default_factory=OrderedDict)
    most: int = 0

    def read(self, system: int) -> bool:
        """Read a request's prompt, and return whether its system prompt was in the cache."""
        is_hit = system in self.cache
        self.cache[system] = None
        self.cache.move_to_end(system)
        if len(self.cache) > CACHED_PROMPTS:
            self.cache.popitem(last=False)
        return is_hit


@dataclass(eq=False, slots=True)
class _View:
    """A replica as one front end sees it."""

    replica: _Replica
    num_branches: int = 0
    others: int = 0

    @property
    def name(self) -> str:
        return self.replica.name

    @property
    def load(self) -> int:
        return self.num_branches + self.others


def run(*, is_quick: bool) -> Table:
    """Simulate each number of front ends, and random placement beside it."""
    table = Table("large_fleet", f"{REPLICAS} replicas, {RATE:,} requests a second, simulated")
    seconds = 4 if is_quick else 15
    for front_ends, has_affinity in ((1, True), (10, True), (40, True), (40, False)):
        table.rows.append(_simulate(front_ends, seconds, has_affinity=has_affinity))
    return table


def _simulate(num: int, seconds: float, *, has_affinity: bool) -> dict[str, Any]:
    draw = random.Random(1)
    replicas = [_Replica(f"http://10.0.0.{number}:8000") for number in range(REPLICAS)]
    views = [[_View(one) for one in replicas] for _ in range(num)]
    placements = [Placement() for _ in range(num)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, SYSTEM_PROMPTS + 1)))
    systems = [tuple(draw.randrange(50_000) for _ in range(SYSTEM_TOKENS)) for _ in range(SYSTEM_PROMPTS)]
    ends: list[tuple[float, int, _View, int]] = []
    serials = itertools.count()
    probed, hits, spread, spent, placed = 0.0, 0, [], 0.0, 0
    start_measuring = seconds / 3
    for serial in range(int(RATE * seconds)):
        now = serial / RATE
        while ends and ends[0][0] <= now:
            _, _, view, width = heapq.heappop(ends)
            view.num_branches -= width
            view.replica.branches -= width
        if now - probed >= PROBE_S:
            probed = now
            for own in views:
                for view in own:
                    view.others = view.replica.branches - view.num_branches
            if now > start_measuring:
                loads = [one.branches for one in replicas]
                spread.append(max(loads) * len(loads) / sum(loads))
        front_end = draw.randrange(num)
        [system] = draw.choices(range(SYSTEM_PROMPTS), cum_weights=weights)
        width = VOTE if draw.random() < VOTE_SHARE else 1
        began = time.perf_counter()
        if has_affinity:
            tokens = (*systems[system], *(draw.randrange(50_000) for _ in range(QUESTION_TOKENS)))
            began = time.perf_counter()
            view = placements[front_end].place(_branch(serial, tokens), views[front_end])
        else:
            view = draw.choice(views[front_end])
        spent += time.perf_counter() - began
        is_hit = view.replica.read(system)
        if now > start_measuring:
            hits += is_hit
            placed += 1
        view.num_branches += width
        view.replica.branches += width
        heapq.heappush(ends, (now + draw.uniform(*BRANCH_S), next(serials), view, width))
    return {
        "front ends": num,
        "placement": "by prefix" if has_affinity else "random",
        "system prompts cached": f"{hits / placed:.1%}",
        "busiest replica / mean": round(sum(spread) / len(spread), 2),
        "us to place a request": round(1e6 * spent / (RATE * seconds)),
    }


def _branch(serial: int, tokens: tuple[int, ...]) -> Branch:
    return Branch(id=f"{serial}-0", prompt=Prompt(tokens, 50), prefix=tokens, max_tokens=50)
