"""Whether searches keep the engine as busy as sampling: branches in flight, time per token, and hits of the prefix cache."""

import asyncio
import statistics
from collections.abc import Mapping
from typing import Any

import httpx

from benchmarks import load, servers
from benchmarks.report import Table

BRANCHES = 16
TOKENS = 256

QUESTIONS = (
    "Tom has 3 boxes with 14 apples each. He eats 2 apples a day for 5 days and gives half of the rest to Ann. How many has he left?",
    "A train goes 60 miles in the first hour and 45 in each of the next 3 hours. It then goes back 30 miles. How far away is it?",
    "A shop sells pens at 3 dollars and books at 12 dollars. Mary buys 7 pens and 4 books and pays with a hundred. What is her change?",
    "A farmer has 24 cows and twice as many hens. Each cow gives 8 litres of milk and each hen an egg a day. How many eggs in a week?",
    "Ben reads 15 pages on Monday, twice as many on Tuesday, and 10 fewer than that on Wednesday. How many pages has he read in all?",
    "A tank holds 500 litres. It is filled at 20 litres a minute and leaks 5 litres a minute. How long does it take to fill it by half?",
)

RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(
        (f"beam_search, 16 beams, steps of {tokens}", {"strategy": "beam_search", "n": 16, "expand": 4, "step_tokens": tokens})
        for tokens in (32, 64)
    ),
    ("beam_search, 16 beams, steps of 32, aligned", {"strategy": "beam_search", "n": 16, "expand": 4, "align": 32}),
    ("beam_search, 16 beams, two tries", {"strategy": "beam_search", "n": 16, "expand": 4, "tries": 2}),
    ("beam_search, 16 beams, steps of 32, p_true", {"strategy": "beam_search", "n": 16, "expand": 4, "verifier": "p_true"}),
    *(
        (
            f"mcts, 8 workers of 2, steps of {tokens}",
            {"strategy": "mcts", "iterations": 40, "workers": 8, "expand": 2, "step_tokens": tokens},
        )
        for tokens in (32, 64)
    ),
    (
        "mcts, 8 workers of 2, rollouts",
        {"strategy": "mcts", "iterations": 12, "workers": 8, "expand": 2, "value": "agreement", "answer": "math"},
    ),
)


def run(*, is_quick: bool) -> Table:
    """Compare each search with best_of_n of sixteen branches, question by question."""
    return asyncio.run(_measure(QUESTIONS[: 2 if is_quick else 4]))


async def _measure(questions: tuple[str, ...]) -> Table:
    table = Table("searches", f"Searches of {BRANCHES} branches against best_of_n with as many, blocks of 32 tokens")
    with servers.ponder("--block-size", "32", "--adapter-slots", "0") as server:
        await load.warm_up(server)
        for what, options in RUNS:
            measured = [await _one(server, question, options, number) for number, question in enumerate(questions)]
            table.rows.append({"what": what} | {name: _mean(one[name] for one in measured) for name in measured[0]})
    return table


def _mean(values: Any) -> float:
    return round(statistics.mean(values), 3)


async def _one(server: servers.Server, question: str, options: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Measure a search, and best_of_n on the same question. Seconds are a ratio, so that machines can be compared."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": TOKENS, "temperature": 0.7, "seed": 100 * seed}
    baseline, _ = await load.chat(server, **body, ponder={"strategy": "best_of_n", "n": BRANCHES, "verifier": "likelihood"})
    reply, _ = await load.chat(server, **body, ponder=dict(options))
    async with httpx.AsyncClient(base_url=server.url) as client:
        trace = (await client.get(f"/v1/traces/{reply['ponder']['trace_id']}")).json()
    ponder, tokens = reply["ponder"], reply["ponder"]["tokens"]
    sent_again = tokens["cached"] + tokens["prefilled"] - reply["usage"]["prompt_tokens"]
    return {
        "in flight of 16": sum(node["seconds"] for node in trace["nodes"]) / ponder["seconds"]["search"] / BRANCHES,
        "time per token ratio": _seconds_per_token(reply) / _seconds_per_token(baseline),
        "prefix hits": tokens["cached"] / sent_again,
        "branches": ponder["branches"]["drawn"],
        "tokens": tokens["decoded"],
        "tokens a branch": tokens["decoded"] / ponder["branches"]["drawn"],
        "prefilled a branch": (tokens["prefilled"] - reply["usage"]["prompt_tokens"]) / ponder["branches"]["drawn"],
    }


def _seconds_per_token(reply: Mapping[str, Any]) -> float:
    return reply["ponder"]["seconds"]["search"] / reply["ponder"]["tokens"]["decoded"]
