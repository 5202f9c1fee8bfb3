"""Evaluates a policy on questions that nothing was fitted to: against fixed plans, the oracle, and with families left out.

`python -m benchmarks.policy FITTED TEST --name NAME`: both are folders that `ponder calibrate` filled. The policy of the first is
evaluated on the pool of the second, none of whose questions may be in the first. Without TEST, the first one is cross-validated.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.lab.calibration.cross_validation import assemble_policy
from app.lab.calibration.evaluation import evaluate_fixed_plan, evaluate_policy
from app.lab.calibration.files import POLICY, SEARCHES
from app.lab.calibration.fitting import fit
from app.lab.calibration.fixed_plans import fixed_plans
from app.lab.calibration.observed_questions import ORDERS, ObservedQuestion, observe
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.plots import figure_png
from app.lab.calibration.policy_building import CalibrationResult, build_policy
from app.lab.calibration.policy_choices import bins_of
from app.lab.calibration.pool import read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.calibration.report import Rows, bin_rows, difficulty_rows, plan_rows, regret_rows
from app.lab.calibration.searches import SearchRuns
from app.lab.progress import counting
from app.request import Effort
from app.routing.calibrated import CalibratedPolicy
from app.routing.policies import read_policy
from app.routing.policy import Query
from app.routing.policy_file import PolicyFile
from app.routing.pool_file import POOL, PoolEntry, PoolSettings
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence
from strategies.core.values import AnswerKind
from strategies.core.verifier import StrategyContext

RESULTS = Path(__file__).parent / "results" / "policy"
REPEATS = 5
"""How often the latency of a decision is measured for each prompt."""


@dataclass(frozen=True)
class FilledPool:
    """A pool in a folder, with the trajectories of its questions."""

    settings: PoolSettings
    entries: Sequence[PoolEntry]
    observed: Sequence[ObservedQuestion]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description=__doc__)
    parser.add_argument("fitted", type=Path, help="folder with policy.json and the pool that it was fitted to")
    parser.add_argument("test", type=Path, nargs="?", help="folder with the pool that it is evaluated on")
    parser.add_argument("--name", required=True, help="name of the model, for titles and files")
    arguments = parser.parse_args()
    file = read_policy(arguments.fitted / POLICY)
    with closing(Equivalence()) as equivalence:
        asyncio.run(_evaluate(arguments, file, equivalence))


async def _evaluate(arguments: argparse.Namespace, file: PolicyFile, equivalence: Equivalence) -> None:
    fitted = await _read(arguments.fitted, equivalence)
    if arguments.test is None:
        test, command, how = fitted, "FITTED", "questions by cross-validation"
        result = build_policy(fitted.observed, await _fixed(arguments.fitted, fitted, equivalence), model=file.model)
    else:
        test, command, how = await _read(arguments.test, equivalence), "FITTED TEST", "questions that nothing was fitted to"
        if shared := {one.key for one in test.entries} & {one.key for one in fitted.entries}:
            raise SystemExit(f"{len(shared)} questions of the test are among those that were fitted to")
        result = _test(file, test, await _fixed(arguments.test, test, equivalence))
    left_out = _families_left_out(fitted, test) if test is not fitted else []
    about = f"{arguments.name}, {len(test.entries)} {how}"
    _save(arguments.name, about, f"benchmarks.policy {command}", result, [*left_out, _latency(file, test)])


def _save(name: str, about: str, command: str, result: CalibrationResult, more_difficulty_rows: Rows) -> None:
    """Write the tables and the figure."""
    tables = {
        "plans": (f"Plans, {about}", plan_rows(result)),
        "bins": (f"Accuracy for GFLOPs per question, by predicted difficulty; {about}", bin_rows(result)),
        "regret": (f"Regret of `auto`; {about}", regret_rows(result)),
        "difficulty": (f"Difficulty; {about}", [*difficulty_rows(result.difficulty), *more_difficulty_rows]),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part, (title, rows) in tables.items():
        table = Table(f"policy/{name}-{part}", title, command, _by_head(rows))
        table.save()
        print(table.markdown())
    (RESULTS / f"{name}.png").write_bytes(figure_png(about, result))


async def _read(folder: Path, equivalence: Equivalence) -> FilledPool:
    settings, entries = read_pool(folder / POOL)
    with counting(folder.name) as report:
        questions = [PooledQuestion(one, settings) for one in entries]
        observed = await observe(questions, _context(settings, equivalence), report)
    return FilledPool(settings, entries, observed)


async def _fixed(folder: Path, pool: FilledPool, equivalence: Equivalence) -> list[PlanPerformance]:
    questions = [PooledQuestion(one, pool.settings) for one in pool.entries]
    context = _context(pool.settings, equivalence)
    found = [await evaluate_fixed_plan(plan, questions, context, ORDERS) for plan in fixed_plans(pool.settings)]
    runs = SearchRuns(folder / SEARCHES)
    return [*found, *runs.performances([one.key for one in pool.entries], runs.names)]


def _context(settings: PoolSettings, equivalence: Equivalence) -> StrategyContext:
    return StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)


def _test(file: PolicyFile, test: FilledPool, fixed: Sequence[PlanPerformance]) -> CalibrationResult:
    evaluations = {effort: evaluate_policy(file, effort, test.observed) for effort in Effort}
    high = evaluations[Effort.HIGH]
    wrong = np.array([one.wrong for one in test.observed])
    first = np.array([each[0].first_difficulty for each in high.stopped])
    difficulty = {"before the first token": (high.difficulties, wrong), "after the first answer": (first, wrong)}
    autos = {effort: evaluation.performance for effort, evaluation in evaluations.items()}
    return CalibrationResult(file, fixed, autos, bins_of(high.difficulties, file.edges), difficulty)


def _families_left_out(fitted: FilledPool, test: FilledPool) -> Rows:
    """Return how good the difficulty of each family is with estimators of the other families, over all families."""
    before, first, wrong = [], [], []
    for task in sorted({one.task for one in test.observed}):
        others = [one for one in fitted.observed if one.task != task]
        family = [one for one in test.observed if one.task == task]
        evaluation = evaluate_policy(assemble_policy(fit(others), others, model="others"), Effort.HIGH, family)
        before += evaluation.difficulties.tolist()
        first += [each[0].first_difficulty for each in evaluation.stopped]
        wrong += [one.wrong for one in family]
    truth = np.array(wrong)
    names = ("before the first token, family left out", "after the first answer, family left out")
    return difficulty_rows({name: (np.array(values), truth) for name, values in zip(names, (before, first), strict=True)})[1:]


def _latency(file: PolicyFile, test: FilledPool) -> Sequence[str]:
    policy, times = CalibratedPolicy(file), []
    for one in [*test.observed] * REPEATS:
        start = time.perf_counter()
        policy.plan(Query(AnswerKind.MATH, Effort.MEDIUM, one.text))
        times.append(time.perf_counter() - start)
    return [
        f"decision before the first token: median {np.median(times) * 1e3:.2f} ms, p99 {np.quantile(times, 0.99) * 1e3:.2f} ms",
        "",
        "",
        "",
        "",
    ]


def _by_head(rows: Rows) -> list[dict[str, str]]:
    head, *body = rows
    return [dict(zip(head, row, strict=True)) for row in body]


if __name__ == "__main__":
    main()
