"""Replays strategies over a pool of `ponder calibrate`: all budgets from the same samples, in several orders."""

import asyncio
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.training.scores import auroc
from app.lab.calibration.fixed_plans import fixed_plans, replay_plan
from app.lab.calibration.pool import read_pool
from app.lab.calibration.pooled_questions import PooledQuestion, ReplayOutcome
from app.routing.pool_file import PoolSettings
from benchmarks.quality.stats import wilson
from benchmarks.report import Table
from benchmarks.suite.families import FAMILIES
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext

ORDERS = 4
"""The number of orders of the samples. Each order is a run that could have happened."""

SIZES = (1, 4, 8, 16)


def report(path: Path, name: str) -> None:
    """Print and save the table of a pool. Only the questions of the suite count, also in a pool with other questions."""
    settings, entries = read_pool(path)
    questions = [PooledQuestion(one, settings) for one in entries if one.task in FAMILIES]
    rows = asyncio.run(_rows(settings, questions))
    title = (
        f"Strategies with the adapter, replayed on {len(questions)} questions of the suite, {ORDERS} orders of their samples"
    )
    if settings.verifier is not None:
        samples = [sample for one in questions for sample in one.entry.samples]
        area = auroc([sample.score or 0.0 for sample in samples], [sample.is_right for sample in samples])
        title += f"; AUROC of the verifier {area:.2f}"
    table = Table(f"suite/{name}", title, f"benchmarks.suite pooled OUT/pool.jsonl --name {name}", rows)
    print(table.markdown())
    table.save()


async def _rows(settings: PoolSettings, questions: Sequence[PooledQuestion]) -> list[dict[str, Any]]:
    equivalence = Equivalence()
    context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
    bins = [one.entry.bin for one in questions]
    rows = []
    try:
        for plan in fixed_plans(settings):
            if plan.n in SIZES:
                outcomes = await replay_plan(plan, questions, context, ORDERS)
                rows.append(_row(plan.name, plan.n, list(zip(*outcomes, strict=True)), bins))
    finally:
        equivalence.close()
    return rows


def _row(name: str, n: int, runs: Sequence[Sequence[ReplayOutcome]], bins: Sequence[int]) -> dict[str, Any]:
    every = [one for run in runs for one in run]
    size = len(bins)
    accuracy = statistics.fmean(one.right for one in every)
    low, high = wilson(round(accuracy * size), size)
    by_bin = {
        f"bin {number}": round(
            100 * statistics.fmean(one.right for run in runs for one, of in zip(run, bins, strict=True) if of == number), 1
        )
        for number in sorted(set(bins))
    }
    return {
        "plan": name,
        "n": n,
        "accuracy %": f"{100 * accuracy:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        **by_bin,
        "TFLOP/question": round(statistics.fmean(one.flops for one in every) / 1e12, 3),
        "of them verifying": round(statistics.fmean(one.verified for one in every) / 1e12, 3),
        "candidates": round(statistics.fmean(one.num_drawn for one in every), 1),
    }
