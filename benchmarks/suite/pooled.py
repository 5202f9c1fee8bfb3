"""Strategies replayed over a pool of answers that `ponder calibrate` drew: all budgets from the same samples, in several orders."""

import asyncio
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.calibration.pool import read_pool
from app.calibration.replay import JUDGE, Question, Replayed
from benchmarks.quality.stats import wilson
from benchmarks.report import Table
from strategies.answers import Equivalence
from strategies.strategy import Tools

ORDERS = 8
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
    """Print and save the table of a pool."""
    how, drawn = read_pool(path)
    questions = [Question(one, how) for one in drawn]
    is_judged = how.verifier is not None
    rows = asyncio.run(_rows(questions, is_judged=is_judged))
    table = Table(f"suite/{name}", f"Replayed on {len(questions)} questions, {ORDERS} orders", "ponder calibrate", rows)
    print(table.markdown())
    table.save()
    if is_judged:
        print(f"AUROC of the verifier: {auroc(questions):.3f}")


async def _rows(questions: Sequence[Question], *, is_judged: bool) -> list[dict[str, Any]]:
    equivalence = Equivalence()
    tools = Tools(equivalence=equivalence, vocab_size=1)
    rows = [_row("direct", 1, [[one.replay_greedy() for one in questions]])]
    try:
        for name, (strategy, params) in PLANS.items():
            if is_judged or "verifier" not in name:
                for n in SIZES:
                    runs = [
                        await asyncio.gather(*(one.replay(strategy, {**params, "n": n}, tools, seed) for one in questions))
                        for seed in range(ORDERS)
                    ]
                    rows.append(_row(name, n, runs))
    finally:
        equivalence.close()
    return rows


def _row(name: str, n: int, runs: Sequence[Sequence[Replayed]]) -> dict[str, Any]:
    every = [one for run in runs for one in run]
    size = len(runs[0])
    accuracy = statistics.fmean(one.is_right for one in every)
    low, high = wilson(round(accuracy * size), size)
    return {
        "plan": name,
        "n": n,
        "accuracy %": f"{100 * accuracy:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        "GFLOP/question": round(statistics.fmean(one.flops for one in every) / 1e9, 1),
        "of them verifying": round(statistics.fmean(one.verified for one in every) / 1e9, 1),
        "drawn": round(statistics.fmean(one.num_drawn for one in every), 1),
    }


def auroc(questions: Sequence[Question]) -> float:
    """That a right sample is scored higher than a wrong one, over all samples together; ties count half."""
    samples = [sample for one in questions for sample in one.drawn.samples]
    scores = np.array([sample.score or 0.0 for sample in samples])
    right = np.array([sample.is_right for sample in samples])
    ranks = np.searchsorted(np.sort(scores), scores, "left") + np.searchsorted(np.sort(scores), scores, "right")
    positives, negatives = right.sum(), (~right).sum()
    above = (ranks[right] / 2 + 0.5).sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))
