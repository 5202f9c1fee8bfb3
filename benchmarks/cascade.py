"""Evaluates a cascade of models on questions that nothing was fitted to: against each model alone, and with families left out.

`python -m benchmarks.cascade --fit FOLDER FOLDER --test FOLDER FOLDER --name NAME`: each is a folder that `ponder calibrate` filled,
one for each model, cheapest model first, and the models of each set have answered the same questions. Without `--test` the first set
is cross-validated. A question counts where all models have answered it.
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

from app.lab.calibration.cascade_command import read_members
from app.lab.calibration.cascade_runs import PRICES, MeasuredMember, Runs, prices_per_flop
from app.lab.calibration.cascades import build_cascade, run_cascade
from app.lab.calibration.cross_validation import assemble_policy, stop_all
from app.lab.calibration.evaluation import performance_of
from app.lab.calibration.fitting import fit
from app.lab.calibration.performance import PlanPerformance, oracle
from app.request import Effort
from benchmarks.report import RESULTS, Table
from benchmarks.suite.families import HELD_OUT, TRAINING
from strategies.answers.equivalence import Equivalence

FOLDS = 5
RESAMPLES = 4000

PARTS = {
    "nineteen families": {one.name for one in (*TRAINING, *HELD_OUT)},
    "thirteen that the adapter was taught": {one.name for one in TRAINING},
    "six that it never saw": {one.name for one in HELD_OUT},
    "GSM8K": {"gsm8k"},
}

Each = list[Sequence[Any]]
"""Of (questions, orders)."""

Row = dict[str, str]


@dataclass(frozen=True)
class Evaluation:
    """A cascade, and its members alone, on questions that nothing was fitted to.

    Attributes:
        efforts: the outcomes of the cascade at each effort.
        curve: the same at each price, highest first.
        alone: of each member, its runs with its own policy at the price of each effort.

    """

    efforts: Mapping[Effort, Each]
    curve: Sequence[Each]
    alone: Sequence[Mapping[Effort, Each]]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade", description=__doc__)
    parser.add_argument("--fit", type=Path, nargs="+", required=True, help="folders of the questions to fit to")
    parser.add_argument("--test", type=Path, nargs="+", default=[], help="folders of the questions to evaluate on")
    parser.add_argument("--name", required=True, help="of the cascade, for titles and files")
    arguments = parser.parse_args()
    with closing(Equivalence()) as equivalence:
        fitted = asyncio.run(read_members(arguments.fit, equivalence))
        test = asyncio.run(read_members(arguments.test, equivalence)) if arguments.test else fitted
    tasks, others = ([one.task for one in members[0].observed] for members in (test, fitted))
    everything = [(np.arange(len(tasks)), np.arange(len(others)))]
    fresh = _by_chance(len(tasks)) if test is fitted else everything
    report(arguments, test, evaluate(fitted, test, fresh), evaluate(fitted, test, _by_family(tasks, others)))


Fold = tuple[NDArray[np.int_], NDArray[np.int_]]
"""The places of the questions to evaluate on, and of those to fit to."""


def _by_chance(num: int) -> list[Fold]:
    places = np.arange(num)
    return [(places[places % FOLDS == fold], places[places % FOLDS != fold]) for fold in range(FOLDS)]


def _by_family(tasks: Sequence[str], others: Sequence[str]) -> list[Fold]:
    """Leave several families at a time out of the fitting."""
    families = np.random.default_rng(0).permutation(np.unique(tasks))
    parts = np.array_split(families, FOLDS)
    return [(np.flatnonzero(np.isin(tasks, part)), np.flatnonzero(~np.isin(others, part))) for part in parts]


def evaluate(fitted: Sequence[MeasuredMember], test: Sequence[MeasuredMember], folds: Sequence[Fold]) -> Evaluation:
    """Evaluate each fold with a cascade, and with policies of its members, that were fitted to the fold's questions to fit to."""
    num = len(test[0].observed)
    efforts: dict[Effort, Each] = {effort: [[]] * num for effort in Effort}
    curve: list[Each] = [[[]] * num for _ in PRICES]
    alone: list[dict[Effort, Each]] = [{effort: [[]] * num for effort in Effort} for _ in test]
    for places, to_fit in folds:
        known, new = ([one.of(chosen) for one in members] for members, chosen in ((fitted, to_fit), (test, places)))
        file, _ = build_cascade(known)
        prices = prices_per_flop(known)
        runs: list[Runs] = []
        for one, other in zip(known, new, strict=True):
            policy = assemble_policy(fit(one.observed), one.observed, model="fold")
            runs.append(stop_all(policy, other.observed, prices))
        found = {price: run_cascade(file, [one.text for one in new[0].observed], runs, price) for price in prices}
        for spot, place in enumerate(places):
            for step, price in enumerate(prices):
                curve[step][place] = found[price][spot]
            for effort, price in file.prices.items():
                efforts[effort][place] = found[price][spot]
                for member, own in enumerate(runs):
                    alone[member][effort][place] = own[price][spot]
    return Evaluation(efforts, curve, alone)


def report(arguments: argparse.Namespace, test: Sequence[MeasuredMember], fresh: Evaluation, left_out: Evaluation) -> None:
    """Write the tables."""
    tasks = [one.task for one in test[0].observed]
    names = [one.fields["model"] + (" with its adapter" if one.fields["adapter"] else "") for one in test]
    greedy = [
        performance_of(f"{name}, greedy", [[one.direct] for one in member.observed])
        for name, member in zip(names, test, strict=True)
    ]
    how = f"{len(tasks)} questions " + ("that nothing was fitted to" if arguments.test else "by cross-validation")
    command = "benchmarks.cascade --fit FOLDER FOLDER" + (" --test FOLDER FOLDER" if arguments.test else "")
    nineteen = np.isin(tasks, [*PARTS["nineteen families"]])
    (RESULTS / "cascade").mkdir(parents=True, exist_ok=True)
    tables = {
        "plans": (f"Cascade of {' and '.join(names)}, {how}", plan_rows(tasks, names, greedy, fresh, left_out)),
        "families": (
            f"Who answered by family, medium effort; {how}",
            family_rows(tasks, names, greedy, fresh.efforts[Effort.MEDIUM]),
        ),
        "curve": (f"Prices of a FLOP, nineteen families; {how}", curve_rows(nineteen, names, greedy[-1], fresh, left_out)),
        "regret": (f"Regret of the cascade, nineteen families; {how}", regret_rows(nineteen, greedy, fresh, left_out)),
    }
    for part, (title, rows) in tables.items():
        table = Table(f"cascade/{arguments.name}-{part}", title, command, rows)
        table.save()
        print(table.markdown(), "\n")


def _cascades(fresh: Evaluation, left_out: Evaluation) -> list[PlanPerformance]:
    return [
        performance_of(f"cascade, {effort}{note}", each.efforts[effort])
        for each, note in ((fresh, ""), (left_out, ", families left out"))
        for effort in Effort
    ]


def plan_rows(
    tasks: Sequence[str], names: Sequence[str], greedy: Sequence[PlanPerformance], fresh: Evaluation, left_out: Evaluation
) -> list[Row]:
    """Return the accuracy and cost of each plan on each part of the questions."""
    alone = [
        performance_of(f"{name}, auto, {effort} price", own[effort])
        for name, own in zip(names, fresh.alone, strict=True)
        for effort in Effort
    ]
    return [
        {"plan": one.label} | {part: _cell(one.of(np.isin(tasks, [*families]))) for part, families in PARTS.items()}
        for one in (*greedy, *alone, *_cascades(fresh, left_out))
    ]


def family_rows(tasks: Sequence[str], names: Sequence[str], greedy: Sequence[PlanPerformance], outcomes: Each) -> list[Row]:
    """Return, for each family, who answered which share, and the accuracy and cost of the cascade and of each member."""
    cascade = performance_of("cascade", outcomes)
    rows = []
    for family in sorted({*tasks}):
        mask = np.array(tasks) == family
        shares = _shares([each for each, is_in in zip(outcomes, mask, strict=True) if is_in], names)
        cells = {one.label: _cell(one.of(mask)) for one in (*greedy, cascade)}
        rows.append({"family": family, "questions": str(int(mask.sum())), **shares, **cells})
    return rows


def curve_rows(
    mask: NDArray[np.bool_], names: Sequence[str], dearest: PlanPerformance, fresh: Evaluation, left_out: Evaluation
) -> list[Row]:
    """Return the accuracy and cost at each price, the highest first."""
    rows = []
    for price, outcomes, others in zip(PRICES, fresh.curve, left_out.curve, strict=True):
        shares = _shares([each for each, is_in in zip(outcomes, mask, strict=True) if is_in], names)
        cells = {
            "cascade": _cell(performance_of("", outcomes).of(mask)),
            "families left out": _cell(performance_of("", others).of(mask)),
        }
        rows.append({f"accuracy for the FLOPs of {dearest.label}": f"{price:g}", **cells, **shares})
    return rows


def regret_rows(
    mask: NDArray[np.bool_], greedy: Sequence[PlanPerformance], fresh: Evaluation, left_out: Evaluation
) -> list[Row]:
    """Return how far each effort is from the dearest member alone, and from an oracle that knows the cheapest right member."""
    references = [oracle([one.of(mask) for one in greedy]), greedy[-1].of(mask)]
    rows = []
    for one in (each.of(mask) for each in _cascades(fresh, left_out)):
        cells = {}
        for other, name in zip(references, ("oracle of the greedy answers", greedy[-1].label), strict=True):
            mean, low, high = _bootstrap(one.accuracy - other.accuracy)
            cells[f"accuracy above {name}"] = f"{mean:+.1%} ({low:+.1%} to {high:+.1%})"
            cells[f"FLOPs as a multiple of {name}"] = f"{one.gflops / other.gflops:.2f}"
        rows.append({"plan": one.label, **cells})
    return rows


def _bootstrap(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean of (questions,) paired differences, and its 95 % interval over resampled questions."""
    places = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[places].mean(axis=1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def _shares(outcomes: Each, names: Sequence[str]) -> Row:
    answered = [one.answered for each in outcomes for one in each]
    return {f"{name} answers": f"{np.mean(np.array(answered) == place):.0%}" for place, name in enumerate(names)}


def _cell(one: PlanPerformance) -> str:
    return f"{one.mean:.1%} for {one.gflops:.0f}" if len(one.accuracy) else ""


if __name__ == "__main__":
    main()
