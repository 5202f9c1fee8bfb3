"""Strategies replayed over a pool of answers that `ponder calibrate` drew: all budgets from the same samples, in several orders."""

import asyncio
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.training.verdicts import auroc
from app.calibration.pool import read_pool
from app.calibration.replay import JUDGE, Question, Replayed
from benchmarks.quality.stats import wilson
from benchmarks.report import Table
from benchmarks.suite.families import FAMILIES
from strategies.answers import Equivalence
from strategies.strategy import Tools

ORDERS = 4
"""Of the samples, each for itself a run that could have been."""

SIZES = (4, 8, 16)

_JUDGED: dict[str, Any] = {"verifier": {"reward_model": JUDGE}}

PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "majority": ("best_of_n", {"verifier": "majority"}),
    "self_consistency": ("self_consistency", {}),
    "self_consistency, waves": ("self_consistency", {"schedule": "waves"}),
    "self_consistency, veto, waves": ("self_consistency", {"schedule": "waves", "veto": "equations"}),
    "best_of_n, equations": ("best_of_n", {"verifier": "equations"}),
    "best_of_n, equations, vote": ("best_of_n", {"verifier": "equations", "select": "vote"}),
    "best_of_n, verifier": ("best_of_n", _JUDGED),
    "best_of_n, verifier, vote": ("best_of_n", {**_JUDGED, "select": "vote"}),
}


def report(path: Path, name: str) -> None:
    """Print and save the table of a pool: of the questions of the suite alone, whatever else is in it."""
    how, drawn = read_pool(path)
    questions = [Question(one, how) for one in drawn if one.task in FAMILIES]
    rows = asyncio.run(_rows(questions, is_judged=how.verifier is not None))
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


async def _rows(questions: Sequence[Question], *, is_judged: bool) -> list[dict[str, Any]]:
    equivalence = Equivalence()
    tools = Tools(equivalence=equivalence, vocab_size=1)
    bins = [one.drawn.bin for one in questions]
    rows = [_row("direct", 1, [[one.replay_greedy() for one in questions]], bins)]
    try:
        for name, (strategy, params) in PLANS.items():
            if is_judged or "verifier" not in name:
                for n in SIZES:
                    runs = [
                        await asyncio.gather(*(one.replay(strategy, {**params, "n": n}, tools, seed) for one in questions))
                        for seed in range(ORDERS)
                    ]
                    rows.append(_row(name, n, runs, bins))
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
