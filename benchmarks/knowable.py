"""How much of the oracle's lead over a policy can be known: `python -m benchmarks.knowable POOL --name NAME`.

The oracle of `app.lab.calibration.performance` knows of each question which plan happened to be right on the samples that were drawn.
A part of that is luck. So the samples of each question are divided into two halves. Each plan is replayed on both, the best plan of a
question is chosen on one half, and measured on the other one: what is known of a question is kept, and luck is not. The greedy answer
is in both halves, since it is the same in each run.
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from app.lab.calibration.command import POOL
from app.lab.calibration.evaluation import evaluate_fixed_plan
from app.lab.calibration.fixed_plans import fixed_plans
from app.lab.calibration.performance import PlanPerformance, mean_interval, oracle
from app.lab.calibration.pool import read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.routing.pool_file import PoolEntry, PoolSettings
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext

ORDERS = 4
"""The orders of the samples of a half."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.knowable", description=__doc__)
    parser.add_argument("pool", type=Path, help="folder with a pool, whose samples are divided")
    parser.add_argument("--name", required=True, help="name of the model, for the title and the file")
    arguments = parser.parse_args()
    settings, entries = read_pool(arguments.pool / POOL)
    with closing(Equivalence()) as equivalence:
        halves = [asyncio.run(_replay(settings, entries, number, equivalence)) for number in range(2)]
    title = f"What can be known of the best plan; {arguments.name}, {len(entries)} questions"
    table = Table(f"policy/{arguments.name}-knowable", title, "benchmarks.knowable POOL", _rows(*halves))
    table.save()
    print(table.markdown())


async def _replay(
    settings: PoolSettings, entries: Sequence[PoolEntry], number: int, equivalence: Equivalence
) -> list[PlanPerformance]:
    """Replay all fixed plans on one half of the samples, each of which has half of those that backtrack."""
    backtracked, others = settings.backtracked // 2, (settings.samples - settings.backtracked) // 2
    half = settings.model_copy(update={"samples": backtracked + others, "backtracked": backtracked})
    questions = []
    for entry in entries:
        first = entry.samples[number * backtracked :][:backtracked]
        second = entry.samples[settings.backtracked + number * others :][:others]
        questions.append(PooledQuestion(entry.model_copy(update={"samples": (*first, *second)}), half))
    context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
    return [await evaluate_fixed_plan(plan, questions, context, ORDERS) for plan in fixed_plans(half)]


def _rows(one: Sequence[PlanPerformance], other: Sequence[PlanPerformance]) -> list[dict[str, str]]:
    fixed = max(other, key=lambda plan: plan.mean)
    rows = {
        "direct": other[0].accuracy,
        f"the best fixed plan, {fixed.label}": fixed.accuracy,
        "the best plan of each question, chosen on other samples": _chosen_on(one, other),
        "the best plan of each question, chosen on the same samples (oracle)": oracle(other).accuracy,
    }
    found = []
    for name, accuracy in rows.items():
        mean, low, high = mean_interval(accuracy)
        behind, *ends = mean_interval(rows[next(reversed(rows))] - accuracy)
        found.append(
            {
                "plan": name,
                "accuracy": f"{mean:.1%} ({low:.1%} to {high:.1%})",
                "below the oracle": f"{behind:.1%} ({ends[0]:.1%} to {ends[1]:.1%})",
            }
        )
    return found


def _chosen_on(one: Sequence[PlanPerformance], other: Sequence[PlanPerformance]) -> np.ndarray:
    """Return the (questions,) accuracy on `other` of the plans that are best on `one`; of equals, the one that is best on average."""
    means = np.array([plan.mean for plan in one])
    accuracy = np.stack([plan.accuracy for plan in one]) + 1e-6 * means[:, None]
    places = accuracy.argmax(axis=0)
    return np.stack([plan.accuracy for plan in other])[places, np.arange(len(places))]


if __name__ == "__main__":
    main()
