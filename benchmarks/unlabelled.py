"""Measures how far a policy that was made without answers is from one with answers, and fits the agreement model.

`python -m benchmarks.unlabelled NAME=FIT,TEST … --also POOL … --write`: NAME is a model, FIT and TEST are two of its folders that
`ponder calibrate` filled with known answers; of a single folder, one half of the questions is FIT and the other TEST. For each model
the agreement model is fitted to the pools of the others, two policies are made from FIT, one with its answers and one without, and
both are evaluated on the answers of TEST. `--also` names pools that are only fitted to. `--write` fits the shipped agreement model to
all of them, and stores the figures beside it. With `--live` the policy without answers is made of what live calibration would have kept.
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.disk import write_whole
from app.lab.calibration.agreement_fitting import fit_agreement, graded
from app.lab.calibration.cross_validation import PRICES, direct_flops, stop_all
from app.lab.calibration.evaluation import evaluate_fixed_plan, evaluate_policy
from app.lab.calibration.fixed_plans import fixed_plans
from app.lab.calibration.observed_questions import ObservedQuestion, observe
from app.lab.calibration.performance import Numbers, PlanPerformance, calibration_error, expected_auroc
from app.lab.calibration.policy_building import build_policy
from app.lab.progress import counting, say
from app.request import Effort
from app.routing.agreement import AGREEMENT_FILE, AgreementModel, MeasuredWithoutAnswers
from app.routing.policy_file import PolicyFile
from benchmarks.graded_pool import GradedPool
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext

NUM_RESAMPLES = 2000
"""How often the questions are sampled anew for an interval."""

FIXED_ORDERS = 2
"""The orders of the samples in which fixed plans are replayed, from which only the prices of the efforts are chosen."""

GRID = 25
"""The number of FLOPs, between the cheapest and the dearest, at which two policies are compared."""


@dataclass(frozen=True)
class MadePolicy:
    """A policy and what it was measured on. `observed` are the questions with the answers that the policy may draw."""

    file: PolicyFile
    observed: Sequence[ObservedQuestion]

    def at(self, effort: Effort) -> PlanPerformance:
        """Return its performance at an effort."""
        return evaluate_policy(self.file, effort, self.observed).performance

    @property
    def quality(self) -> tuple[float, float]:
        """The calibration error and the AUROC of its estimates after the first answer."""
        stopped = evaluate_policy(self.file, Effort.HIGH, self.observed).stopped
        first = np.array([each[0].first_difficulty for each in stopped])
        wrong = np.array([one.wrong for one in self.observed])
        return calibration_error(first, wrong), expected_auroc(first, wrong)

    @property
    def curve(self) -> "PriceCurve":
        """What it does at each price."""
        unit = direct_flops(self.observed)
        stopped = stop_all(self.file, self.observed, [price / unit for price in PRICES]).values()
        return PriceCurve(
            np.array([[np.mean([one.right for one in each]) for each in at_price] for at_price in stopped]),
            np.array([[np.mean([one.flops for one in each]) for each in at_price] for at_price in stopped]),
        )


@dataclass(frozen=True)
class PriceCurve:
    """What a policy does on each question at each price: arrays of (prices, questions)."""

    accuracy: Numbers
    flops: Numbers

    def accuracy_at(self, log_flops: Numbers, chosen: NDArray[np.int_]) -> Numbers:
        """Return the accuracy at these logarithms of mean FLOPs, interpolated, on the questions that were chosen."""
        flops, accuracy = np.log(self.flops[:, chosen].mean(axis=1)), self.accuracy[:, chosen].mean(axis=1)
        order = np.argsort(flops)
        # a dearer price is never worse than a cheaper one: whoever serves it may choose the cheaper one
        return np.interp(log_flops, flops[order], np.maximum.accumulate(accuracy[order]))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unlabelled", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=FIT,TEST")
    parser.add_argument("--also", nargs="*", type=Path, default=[], help="folders that are only fitted to")
    parser.add_argument("--write", action="store_true", help="write the shipped agreement model")
    parser.add_argument("--live", action="store_true", help="use only what live calibration would have kept")
    arguments = parser.parse_args()
    models = {}
    for one in arguments.models:
        name, _, folders = one.partition("=")
        models[name] = [Path(folder) for folder in folders.split(",")]
    with closing(Equivalence()) as equivalence:
        asyncio.run(_measure(models, arguments, equivalence))


async def _measure(models: Mapping[str, Sequence[Path]], arguments: argparse.Namespace, equivalence: Equivalence) -> None:
    pools = {
        name: _pair([await GradedPool.read(folder, equivalence) for folder in folders]) for name, folders in models.items()
    }
    also = [await GradedPool.read(folder, equivalence) for folder in arguments.also]
    rows, measured = [], []
    for name, pair in pools.items():
        architecture = pair[0].settings.architecture
        others = [pool for other, each in pools.items() if other != name for pool in each]
        agreement = _fitted([*others, *(pool for pool in also if pool.settings.architecture != architecture)])
        row, figures = await _compare(name, pair, agreement, equivalence, is_live=arguments.live)
        rows += row
        measured.append(figures)
        print(Table("so far", "so far", rows=rows).markdown(), flush=True)
    kind, what, option = ("live", "of live traffic", " --live") if arguments.live else ("unlabelled", "without answers", "")
    title = f"Policies made {what}, against those from the same questions with answers, on questions that nothing was fitted to"
    Table(f"policy/{kind}", title, f"benchmarks.unlabelled NAME=FIT,TEST …{option}", rows).save()
    every = [pool for each in pools.values() for pool in each]
    if arguments.write:
        shipped = _fitted([*every, *also]).model_copy(update={"measured": tuple(measured)})
        write_whole(AGREEMENT_FILE, shipped.model_dump_json(indent=1) + "\n")
        say(f"wrote {AGREEMENT_FILE}")


def _pair(pools: Sequence[GradedPool]) -> Sequence[GradedPool]:
    """Return a pool to fit to and one to test on."""
    return pools if len(pools) > 1 else [pools[0].part(0), pools[0].part(1)]


def _fitted(pools: Sequence[GradedPool]) -> AgreementModel:
    questions = [graded(ballots) for pool in pools for ballots in pool.ballots]
    names = sorted({pool.settings.model + (" with an adapter" if pool.settings.adapter else "") for pool in pools})
    return fit_agreement(questions, {"models": names, "questions": len(questions)})


async def _compare(
    name: str, pair: Sequence[GradedPool], agreement: AgreementModel, equivalence: Equivalence, *, is_live: bool
) -> tuple[list[dict[str, Any]], MeasuredWithoutAnswers]:
    """Return the rows of a model, one for each effort, and its figures."""
    fit, test = pair
    context = StrategyContext(equivalence=equivalence, vocab_size=fit.settings.flops.vocab_size)
    observed = await _observe(name, test, context)
    one = MadePolicy(await _policy(name, fit, None, context), observed)
    if is_live:
        fit, test = fit.live(), test.live()
        observed = await _observe(name, test, context)
    other = MadePolicy(await _policy(name, fit, agreement, context), observed)
    curves = [one.curve, other.curve]
    overall = _difference(curves, _common_grid(curves))
    (error, area), (other_error, other_area) = one.quality, other.quality
    questions, test_questions = len(fit.entries), len(test.entries)
    rows = []
    for effort in Effort:
        with_answers, without = one.at(effort), other.at(effort)
        at_effort = _difference(curves, np.array([np.log(with_answers.flops.mean())]))
        rows.append(
            {
                "model": name,
                "made from / measured on": f"{questions} / {test_questions} questions",
                "effort": effort,
                "with answers %": _performance(with_answers),
                "without %": _performance(without),
                "points at the FLOPs of the former": _points(*at_effort),
                "points over all prices": _points(*overall),
                "calibration error after the first answer": f"{error:.3f} / {other_error:.3f}",
                "AUROC after the first answer": f"{area:.3f} / {other_area:.3f}",
            }
        )
    figures = MeasuredWithoutAnswers(
        model=name, questions=questions, test_questions=test_questions, accuracy=round(overall[0], 4),
        interval=(round(overall[1], 4), round(overall[2], 4)), calibration_error=round(other_error, 4),
        calibration_error_with_answers=round(error, 4),
    )  # fmt: skip
    return rows, figures


async def _observe(name: str, test: GradedPool, context: StrategyContext) -> list[ObservedQuestion]:
    with counting(f"{name}, test") as report:
        return await observe(test.questions(None), context, report, orders=4)


async def _policy(name: str, fit: GradedPool, agreement: AgreementModel | None, context: StrategyContext) -> PolicyFile:
    """Make a policy of a pool, with its answers where there is no agreement model."""
    questions = fit.questions(agreement)
    with counting(f"{name}, trajectories") as report:
        observed = await observe(questions, context, report, orders=4)
    fixed = [await evaluate_fixed_plan(plan, questions, context, FIXED_ORDERS) for plan in fixed_plans(fit.settings)]
    return build_policy(observed, fixed, model=fit.settings.model, attempts=fit.settings.attempts).file


def _common_grid(curves: Sequence[PriceCurve]) -> Numbers:
    """Return logarithms of FLOPs that both policies reach."""
    means = [np.log(one.flops.mean(axis=1)) for one in curves]
    return np.linspace(max(one.min() for one in means), min(one.max() for one in means), GRID)


def _difference(curves: Sequence[PriceCurve], log_flops: Numbers) -> tuple[float, float, float]:
    """Return the mean of (accuracy without answers less that with answers) at these FLOPs, and its 95 % bootstrap interval."""
    num = curves[0].accuracy.shape[1]

    def difference(chosen: NDArray[np.int_]) -> float:
        with_answers, without = (one.accuracy_at(log_flops, chosen) for one in curves)
        return float((without - with_answers).mean())

    generator = np.random.default_rng(0)
    resampled = [difference(generator.integers(0, num, num)) for _ in range(NUM_RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return difference(np.arange(num)), float(low), float(high)


def _performance(one: PlanPerformance) -> str:
    return f"{100 * one.mean:.1f} for {one.gflops:.0f} GFLOP"


def _points(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


if __name__ == "__main__":
    main()
