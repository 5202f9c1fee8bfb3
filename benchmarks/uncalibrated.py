"""What `auto` is worth for models that nobody calibrated: `python -m benchmarks.uncalibrated POOLS`.

Each question of a model is planned by a general estimator that was fitted to other questions of other models, and compared with the
frontier of the model's fixed plans: the most accurate mixture of them that costs as much.
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from app.lab.calibration.evaluation import evaluate_fixed_plan
from app.lab.calibration.fixed_plans import fixed_plans
from app.lab.calibration.general_fitting import ModelQuestions, fit_general
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.pool import read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.calibration.trajectories import WaveRecord
from app.lab.progress import counting
from app.request import Effort
from app.routing.general import GeneralPolicy
from app.routing.policy_file import auto_label
from app.routing.pool_file import POOL
from app.routing.value_of_computation import ValueOfComputationRule, WaveEstimators
from benchmarks.general import FOLDS, ORDERS, PRICES, RESAMPLES, fold_of, only, read
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uncalibrated", description=__doc__)
    parser.add_argument("pools", type=Path, help="folder with a folder for each model, which has the folders `fit` and `test`")
    arguments = parser.parse_args()
    paths = sorted(arguments.pools.glob(f"*/*/{POOL}"))
    title = "`auto` for models that nobody calibrated, beside their fixed plans"
    table = Table("uncalibrated", title, "benchmarks.uncalibrated POOLS")
    with closing(Equivalence()) as equivalence:
        pools = asyncio.run(read(paths, equivalence))
        for pool in pools:
            fixed = asyncio.run(_fixed([path for path in paths if path.parent.parent.name == pool.model], equivalence))
            others = [one for one in pools if one is not pool]
            table.rows += _rows(pool.model, _autos(others, pool), fixed)
    table.save()
    print(table.markdown())


async def _fixed(paths: Sequence[Path], equivalence: Equivalence) -> list[PlanPerformance]:
    """Return the performance of the fixed plans that all pools of a model can replay."""
    found: list[list[PlanPerformance]] = []
    for path in paths:
        settings, entries = read_pool(path)
        context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
        questions, plans = [PooledQuestion(one, settings) for one in entries], fixed_plans(settings)
        with counting(f"plans of {path.parent.parent.name}") as report:
            found.append([])
            for number, plan in enumerate(plans, 1):
                found[-1].append(await evaluate_fixed_plan(plan, questions, context, ORDERS))
                report(number, len(plans))
    return [_join(same) for same in zip(*found, strict=True)]


def _join(parts: Sequence[PlanPerformance]) -> PlanPerformance:
    accuracy, flops, branches = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("accuracy", "flops", "branches")
    )
    return PlanPerformance(parts[0].label, accuracy, flops, branches, parts[0].n)


def _autos(others: Sequence[ModelQuestions], pool: ModelQuestions) -> list[PlanPerformance]:
    """Return the performance of each effort on all questions of a model, in their order."""
    outcomes = {effort: np.zeros((len(pool.observed), 3)) for effort in Effort}
    for fold in range(FOLDS):
        fitted = only(others, lambda one, fold=fold: fold_of(one) != fold)
        estimators = GeneralPolicy(fit_general(fitted, PRICES, members=1)).estimators
        for place, one in enumerate(pool.observed):
            if fold_of(one) == fold:
                for effort in Effort:
                    ends = [_stop(estimators, PRICES[effort], trajectory) for trajectory in one.trajectories]
                    outcomes[effort][place] = np.mean([(end.right, end.flops, end.evidence.attempts) for end in ends], axis=0)
    return [PlanPerformance(auto_label(effort), *found.T) for effort, found in outcomes.items()]


def _stop(estimators: WaveEstimators, price: float, trajectory: Sequence[WaveRecord]) -> WaveRecord:
    """Return the last wave that a search at this price draws."""
    rule = ValueOfComputationRule(estimators, 0.5, price)
    return next((record for record in trajectory if rule.decide(record.evidence).answers is None), trajectory[-1])


def _rows(model: str, autos: Sequence[PlanPerformance], fixed: Sequence[PlanPerformance]) -> list[dict[str, str]]:
    draws = np.random.default_rng(0).integers(len(fixed[0].accuracy), size=(RESAMPLES, len(fixed[0].accuracy)))
    best = max(fixed, key=lambda plan: plan.mean)
    rows = []
    for plan in (fixed[0], best, *autos):
        lead = _lead(plan, fixed, np.arange(len(plan.accuracy)))
        leads = [_lead(plan, fixed, draw) for draw in draws]
        low, high = np.quantile(leads, (0.025, 0.975))
        rows.append(
            {
                "model": model,
                "plan": plan.label,
                "accuracy": f"{plan.mean:.1%}",
                "GFLOPs per question": f"{plan.gflops:.0f}",
                "points above the frontier of fixed plans": f"{100 * lead:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            }
        )
    return rows


def _lead(plan: PlanPerformance, fixed: Sequence[PlanPerformance], places: np.ndarray) -> float:
    """Return the accuracy of a plan less that of the best mixture of fixed plans with as many FLOPs, on these questions."""
    points = sorted((float(one.flops[places].mean()), float(one.accuracy[places].mean())) for one in fixed)
    flops, accuracy = float(plan.flops[places].mean()), float(plan.accuracy[places].mean())
    hull: list[tuple[float, float]] = []
    for point in points:
        if hull and point[1] <= hull[-1][1]:
            continue  # it costs more, and is no more accurate
        while len(hull) > 1 and _is_below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return accuracy - float(np.interp(flops, [cost for cost, _ in hull], [share for _, share in hull]))


def _is_below(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    return (middle[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (middle[0] - left[0])


if __name__ == "__main__":
    main()
