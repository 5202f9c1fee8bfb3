"""Compares best_of_n and self_consistency with n = 8 with one vLLM request with n = 8: duration, tokens and answers."""

import asyncio
import statistics
from typing import Any

from benchmarks import load, servers
from benchmarks.report import Table
from strategies.answers.reading import read_answer
from strategies.core.values import AnswerKind

N = 8
TOKENS = 64
ANSWER_TOKENS = 128  # enough to finish, since a truncated answer has no vote


def sums(count: int) -> list[list[dict[str, str]]]:
    """Return additions of small numbers, most of which the embedded model solves."""
    pairs = [(1 + 2 * i % 5, 1 + 3 * i % 4) for i in range(count)]
    return [[{"role": "user", "content": f"What is {a} + {b}?"}] for a, b in pairs]


def capitals(count: int) -> list[list[dict[str, str]]]:
    """Return questions on which most samples of the embedded model agree."""
    countries = (
        "France",
        "Japan",
        "Italy",
        "Spain",
        "Germany",
        "Russia",
        "China",
        "Egypt",
        "England",
        "Greece",
        "Austria",
        "Cuba",
    )
    return [[{"role": "user", "content": f"What is the capital of {country}?"}] for country in countries[:count]]


def run(*, is_quick: bool) -> Table:
    """Measure equal work first, then answers with and without early stopping."""
    return asyncio.run(_measure(rounds=4 if is_quick else 6, questions=6 if is_quick else 12))


async def _measure(rounds: int, questions: int) -> Table:
    table = Table("sampling", f"n = {N}: strategies against one vLLM request with n = {N}")
    with servers.ponder() as ours, servers.vllm() as theirs:
        await load.warm_up(ours, theirs)
        for strategy, options in (
            ("best_of_n", {"verifier": "majority"}),
            ("best_of_n", {"verifier": "self_certainty"}),
            ("self_consistency", {"confidence": 1}),
        ):
            table.rows.append(await _same_work(strategy, options, rounds, ours, theirs))
        for what, kind, prompts in (
            ("sums, samples disagree", AnswerKind.MATH, sums(questions)),
            ("capitals, samples agree", AnswerKind.TEXT, capitals(questions)),
        ):
            for schedule in ("parallel", "waves"):
                table.rows.append(await _early(what, kind, schedule, prompts, (ours, theirs)))
    return table


async def _same_work(
    strategy: str, options: dict[str, Any], rounds: int, ours: servers.Server, theirs: servers.Server
) -> dict[str, Any]:
    """Compare where every branch generates the same number of tokens. Truncated answers have no vote, so no vote ends early."""
    ratios, seconds = [], []
    for number, messages in enumerate(sums(rounds)):
        body = {"messages": messages, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0.7, "seed": number}
        took = {}
        for server in (ours, theirs) if number % 2 else (theirs, ours):
            fields = {"ponder": {"strategy": strategy, "n": N, **options}} if server is ours else {"n": N}
            reply, took[server.name] = await load.chat(server, **body, **fields)
            if (tokens := reply["usage"]["completion_tokens"]) != N * TOKENS:
                raise RuntimeError(f"{server.name} generated {tokens} tokens, not {N * TOKENS}: the work is not the same")
        ratios.append(took["ponder"] / took["vllm"])
        seconds.append(took["ponder"])
    return {
        "what": f"{strategy} {' '.join(map(str, options.values()))}, same work",
        "seconds": round(statistics.median(seconds), 3),
        "wall time ratio": round(statistics.median(ratios), 3),
        "token ratio": 1.0,
        "same answer": "-",
    }


async def _early(
    what: str,
    kind: AnswerKind,
    schedule: str,
    questions: list[list[dict[str, str]]],
    pair: tuple[servers.Server, servers.Server],
) -> dict[str, Any]:
    """Compare the duration with one vLLM request, and tokens and answers with the vote over all eight samples of the same seeds."""
    ours, theirs = pair
    ratios, seconds, tokens, same = [], [], [], 0
    for number, messages in enumerate(questions):
        body = {"messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0.7, "seed": 100 * number}
        fields = {"strategy": "self_consistency", "n": N, "schedule": schedule, "answer": kind}
        _, their_seconds = await load.chat(theirs, **body, n=N)
        full, _ = await load.chat(ours, **body, ponder={**fields, "schedule": "parallel", "confidence": 1})
        early, early_seconds = await load.chat(ours, **body, ponder=fields)
        ratios.append(early_seconds / their_seconds)
        seconds.append(early_seconds)
        tokens.append(early["usage"]["completion_tokens"] / full["usage"]["completion_tokens"])
        same += _answer(kind, early["choices"][0]) == _answer(kind, full["choices"][0])
    return {
        "what": f"self_consistency {schedule}, early stop; {what}",
        "seconds": round(statistics.median(seconds), 3),
        "wall time ratio": round(statistics.median(ratios), 3),
        "token ratio": round(statistics.mean(tokens), 3),
        "same answer": f"{same} of {len(questions)}",
    }


def _answer(kind: AnswerKind, choice: dict[str, Any]) -> str | None:
    return read_answer(kind, choice["message"]["content"])
