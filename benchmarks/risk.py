"""Whether a risk that is promised holds: `python -m benchmarks.risk POOL` splits the questions of a pool many times.

A price is chosen on one half of the questions by conformal risk control, and the loss against the best fixed plan is that on the other
half. The policy that is replayed was fitted to other questions than each that it answers.
"""

import argparse
import asyncio
from contextlib import closing
from pathlib import Path

import numpy as np

from app.lab.calibration.cross_validation import cross_validate
from app.lab.calibration.evaluation import evaluate_fixed_plan
from app.lab.calibration.fixed_plans import fixed_plans
from app.lab.calibration.observed_questions import observe
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.pool import read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.calibration.risk import bound, losses
from app.lab.progress import counting
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext

RISKS = (0.01, 0.02, 0.05, 0.1)
SPLITS = 1000
ORDERS = 4


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.risk", description=__doc__)
    parser.add_argument("pool", type=Path, help="file of a pool whose answers were graded")
    arguments = parser.parse_args()
    with closing(Equivalence()) as equivalence:
        found, plain, flops, best = asyncio.run(_losses(arguments.pool, equivalence))
    table = Table(
        "risk", f"The promised risk against the loss on other questions, over {SPLITS} splits (best fixed plan: {best.label})"
    )
    for risk in RISKS:
        realised, costs, num_fixed = [], [], 0
        for split in range(SPLITS):
            order = np.random.default_rng(split).permutation(len(best.accuracy))
            chosen_on, others = np.array_split(order, 2)
            held = [price for price, one in found.items() if bound(one[chosen_on]) <= risk]
            num_fixed += not held
            realised.append(plain[max(held)][others].mean() if held else 0.0)
            costs.append((flops[max(held)] if held else best.flops)[others].mean() / best.flops[others].mean())
        table.rows.append(
            {
                "risk": f"{risk:.0%}",
                "mean loss": f"{np.mean(realised):+.2%}",
                "FLOPs as a share of the fixed plan's": f"{np.mean(costs):.2f}",
                "splits where the fixed plan answered": f"{num_fixed / SPLITS:.0%}",
            }
        )
    print(table.markdown())


async def _losses(
    path: Path, equivalence: Equivalence
) -> tuple[dict[float, np.ndarray], dict[float, np.ndarray], dict[float, np.ndarray], PlanPerformance]:
    """Return by price the losses made monotone, the plain ones and the FLOPs, each (questions,), and the best fixed plan."""
    settings, entries = read_pool(path)
    questions = [PooledQuestion(one, settings) for one in entries]
    context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
    with counting("questions") as report:
        observed = await observe(questions, context, report, ORDERS)
    plans = [one for one in fixed_plans(settings) if "verifier" not in one.name]
    fixed = [await evaluate_fixed_plan(one, questions, context, ORDERS) for one in plans]
    best = max(fixed, key=lambda one: (one.mean, -one.gflops))
    validation = cross_validate(observed)
    plain, flops = {}, {}
    for price, stopped in validation.stopped.items():
        plain[price] = best.accuracy - np.array([np.mean([one.right for one in each]) for each in stopped])
        flops[price] = np.array([np.mean([one.flops for one in each]) for each in stopped])
    return losses(validation, best), plain, flops, best


if __name__ == "__main__":
    main()
