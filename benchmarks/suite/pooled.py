"""Strategies replayed over a pool of answers that `ponder calibrate` drew: all budgets from the same samples, in several orders."""

import asyncio
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.training.scores import auroc
from app.lab.calibration.fixed_plans import plans, replayed
from app.lab.calibration.pool import How, read_pool
from app.lab.calibration.questions import Question, Replayed
from benchmarks.quality.stats import wilson
from benchmarks.report import Table
from benchmarks.suite.families import FAMILIES
from strategies.answers.equivalence import Equivalence
from strategies.core.context import StrategyContext

ORDERS = 4
"""Of the samples, each for itself a run that could have been."""

SIZES = (1, 4, 8, 16)


def report(path: Path, name: str) -> None:
    """Print and save the table of a pool: of the questions of the suite alone, whatever else is in it."""
    how, drawn = read_pool(path)
    questions = [Question(one, how) for one in drawn if one.task in FAMILIES]
    rows = asyncio.run(_rows(how, questions))
    title = (
        f"Strategies with the adapter, replayed on {len(questions)} questions of the suite, {ORDERS} orders of their samples"
    )
    if how.verifier is not None:
        samples = [sample for one in questions for sample in one.drawn.samples]
        worth = auroc([sample.score or 0.0 for sample in samples], [sample.is_right for sample in samples])
        title += f"; AUROC of the verifier {worth:.2f}"
    table = Table(f"suite/{name}", title, f"benchmarks.suite pooled OUT/pool.jsonl --name {name}", rows)
    print(table.markdown())
    table.save()


async def _rows(how: How, questions: Sequence[Question]) -> list[dict[str, Any]]:
    equivalence = Equivalence()
    tools = StrategyContext(equivalence=equivalence, vocab_size=how.flops.vocab_size)
    bins = [one.drawn.bin for one in questions]
    rows = []
    try:
        for plan in plans(how):
            if plan.n in SIZES:
                outcomes = await replayed(plan, questions, tools, ORDERS)
                rows.append(_row(plan.name, plan.n, list(zip(*outcomes, strict=True)), bins))
    finally:
        equivalence.close()
    return rows


def _row(name: str, n: int, runs: Sequence[Sequence[Replayed]], bins: Sequence[int]) -> dict[str, Any]:
    every = [one for run in runs for one in run]
    size = len(bins)
    accuracy = statistics.fmean(one.is_right for one in every)
    low, high = wilson(round(accuracy * size), size)
    by_bin = {
        f"bin {number}": round(
            100 * statistics.fmean(one.is_right for run in runs for one, of in zip(run, bins, strict=True) if of == number), 1
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
