"""Fits the general estimator, and measures it on questions, families and models that nothing was fitted to.

`python -m benchmarks.general POOLS --write` fits the file that comes with the package to all pools in the folders POOLS/MODEL/….
`python -m benchmarks.general POOLS` measures such estimators: each question is estimated by one that was fitted to other questions, of
all models or of all other models, or without its family.
"""

import argparse
import asyncio
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from app.lab.calibration.files import POOL
from app.lab.calibration.general_fitting import ModelQuestions, fit_general
from app.lab.calibration.observed_questions import ObservedQuestion, observe
from app.lab.calibration.performance import brier, calibration_error, expected_auroc
from app.lab.calibration.pool import read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.progress import counting
from app.request import Effort
from app.routing.general import SHIPPED, GeneralPolicy
from app.routing.planner import TYPICAL_CONTEXT
from app.routing.policy import Query
from app.routing.value_of_computation import ValueOfComputationRule
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext

ORDERS = 4
"""The orders of the samples of a question that are replayed."""

PRICES = {Effort.LOW: 6e-4, Effort.MEDIUM: 2e-4, Effort.HIGH: 6e-5}
"""The accuracy that a token must gain, by effort."""

FOLDS = 5
"""The parts that the questions are divided into."""

RESAMPLES = 500
"""How often the questions are drawn anew for an interval."""


@dataclass(frozen=True)
class Estimates:
    """What an estimator said of questions that it was not fitted to.

    Attributes:
        model: (questions,) names.
        before: (questions,) probabilities that the first answer is wrong, from the prompt.
        first: (questions,) the same, after the first tokens.
        after: (questions,) the same, after the first answer.
        wrong: (questions,) whether it was wrong.

    """

    model: np.ndarray
    before: np.ndarray
    first: np.ndarray
    after: np.ndarray
    wrong: np.ndarray


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.general", description=__doc__)
    parser.add_argument("pools", type=Path, help="folder with a folder for each model, which has the folders `fit` and `test`")
    parser.add_argument("--write", action="store_true", help="write the file that comes with the package")
    arguments = parser.parse_args()
    with closing(Equivalence()) as equivalence:
        pools = asyncio.run(read(sorted(arguments.pools.glob(f"*/*/{POOL}")), equivalence))
    if arguments.write:
        models = {pool.model: len(pool.observed) for pool in pools}
        provenance = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "questions": models}
        SHIPPED.write_text(fit_general(pools, PRICES, provenance=provenance).model_dump_json())
        return
    ways = {"nothing": _by_question(pools), "its family": _by_family(pools), "its model": _by_model(pools)}
    table = Table("general", "The general estimator, on questions that nothing was fitted to", "benchmarks.general POOLS")
    table.rows = [row for name, estimates in ways.items() for row in _rows(name, estimates)]
    table.rows.append(dict.fromkeys(table.rows[0], "") | {"left out": _decision_times(pools)})
    table.save()
    print(table.markdown())


def _decision_times(pools: Sequence[ModelQuestions]) -> str:
    """Return the processor time of a decision before the first token, by the shipped file."""
    policy, times = GeneralPolicy.shipped(), []
    for pool in pools:
        for one in pool.observed:
            start = time.thread_time()
            policy.plan(Query(one.kind, Effort.MEDIUM, one.text, token_flops=pool.token_flops))
            times.append(1e3 * (time.thread_time() - start))
    return f"a decision takes {np.median(times):.2f} ms, {np.quantile(times, 0.99):.2f} at the 99th percentile"


async def read(paths: Sequence[Path], equivalence: Equivalence) -> list[ModelQuestions]:
    """Return the questions of each model, of all its pools."""
    found: dict[str, ModelQuestions] = {}
    for path in paths:
        settings, entries = read_pool(path)
        context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
        model = path.parent.parent.name
        with counting(f"{model} {path.parent.name}") as report:
            observed = await observe([PooledQuestion(one, settings) for one in entries], context, report, ORDERS)
        known = found[model].observed if model in found else ()
        found[model] = ModelQuestions(model, settings.flops.decode(1, TYPICAL_CONTEXT), [*known, *observed])
    return list(found.values())


def _by_question(pools: Sequence[ModelQuestions]) -> Estimates:
    return _join(
        [part for fold in range(FOLDS) for part in _held_out(pools, pools, lambda one, fold=fold: fold_of(one) == fold)]
    )


def _by_family(pools: Sequence[ModelQuestions]) -> Estimates:
    families = sorted({one.task for pool in pools for one in pool.observed})
    return _join(
        [part for family in families for part in _held_out(pools, pools, lambda one, family=family: one.task == family)]
    )


def _by_model(pools: Sequence[ModelQuestions]) -> Estimates:
    parts = []
    for pool in pools:
        others = [one for one in pools if one is not pool]
        for fold in range(FOLDS):
            parts += _held_out(others, [pool], lambda one, fold=fold: fold_of(one) == fold)
    return _join(parts)


def fold_of(question: ObservedQuestion) -> int:
    """Return the fold of a question: the same one for all models."""
    return zlib.crc32(question.text.encode()) % FOLDS


def _held_out(
    fitted: Sequence[ModelQuestions], tested: Sequence[ModelQuestions], is_out: Callable[[ObservedQuestion], bool]
) -> list[Estimates]:
    """Fit to all questions that are not held out, and estimate those that are."""
    policy = GeneralPolicy(fit_general(only(fitted, lambda one: not is_out(one)), PRICES, members=1))
    return [_estimate(policy, pool) for pool in only(tested, is_out)]


def only(pools: Sequence[ModelQuestions], has: Callable[[ObservedQuestion], bool]) -> list[ModelQuestions]:
    """Return the questions for which a condition holds, without models that have none."""
    chosen = [replace(pool, observed=[one for one in pool.observed if has(one)]) for pool in pools]
    return [pool for pool in chosen if pool.observed]


def _estimate(policy: GeneralPolicy, pool: ModelQuestions) -> Estimates:
    before, first, after = [], [], []
    for one in pool.observed:
        query = Query(one.kind, Effort.MEDIUM, one.text, token_flops=pool.token_flops)
        estimate = policy.difficulty(query)
        difficulty = 0.5 if estimate is None else estimate.probability
        rule = ValueOfComputationRule(policy.estimators, difficulty, 1.0)
        evidence = one.trajectories[0][0].evidence
        rule.decide(evidence)
        before.append(difficulty)
        first.append(policy.after_first_tokens(query, evidence.first_logprobs))
        after.append(rule.difficulty_after_wave or 0.0)
    wrong = np.array([one.wrong for one in pool.observed])
    return Estimates(np.full(len(wrong), pool.model), np.array(before), np.array(first), np.array(after), wrong)


def _join(parts: Sequence[Estimates]) -> Estimates:
    names = ("model", "before", "first", "after", "wrong")
    return Estimates(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _rows(name: str, estimates: Estimates) -> Iterator[dict[str, str]]:
    """Yield a row for all models together, and one for each."""
    for model in ("all", *np.unique(estimates.model)):
        of_model = np.ones(len(estimates.wrong), dtype=bool) if model == "all" else estimates.model == model
        wrong = estimates.wrong[of_model]
        for moment, values in (
            ("before the first token", estimates.before),
            ("after the first tokens", estimates.first),
            ("after the first answer", estimates.after),
        ):
            low, high = _interval(values[of_model], wrong)
            yield {
                "left out": name,
                "model": str(model),
                "estimated": moment,
                "questions": str(len(wrong)),
                "AUROC": f"{expected_auroc(values[of_model], wrong):.2f} ({low:.2f} to {high:.2f})",
                "calibration error": f"{calibration_error(values[of_model], wrong):.3f}",
                "Brier score": f"{brier(values[of_model], wrong):.3f}",
            }


def _interval(values: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the AUROC, by the bootstrap over questions."""
    draws = np.random.default_rng(0).integers(len(wrong), size=(RESAMPLES, len(wrong)))
    areas = [expected_auroc(values[draw], wrong[draw]) for draw in draws]
    return float(np.nanquantile(areas, 0.025)), float(np.nanquantile(areas, 0.975))


if __name__ == "__main__":
    main()
