"""What a server learns from its own answers, without labels: the first estimate of a model that nobody calibrated.

`python -m benchmarks.learning POOLS` streams the questions of each folder POOLS/MODEL/test through two general estimators and corrects
them as a server does: the one that comes with the package, and one that is fitted to the folders POOLS/*/fit of all other models. With
`--constants` it streams POOLS/MODEL/fit, by which the constants of `app.routing.learning` were chosen.
"""

import argparse
import asyncio
import random
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from app.lab.calibration.general_fitting import ModelQuestions, fit_general
from app.lab.calibration.performance import brier, calibration_error, expected_auroc
from app.request import Effort
from app.routing.general import GeneralPolicy
from app.routing.learning.learner import Learner, Lessons
from app.routing.learning.words import Words
from app.routing.policy import Query
from app.routing.pool_file import POOL
from app.routing.value_of_computation import ValueOfComputationRule
from benchmarks.general import PRICES, read
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence

ENDS = (0, 50, 100, 200, 300)
"""The questions after which the stream is looked at."""

ORDERS = 20
"""How often a stream is repeated, with its questions in another order."""

SCORES = {"AUROC": expected_auroc, "calibration error": calibration_error, "Brier score": brier}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("pools", type=Path, help="folder with a folder for each model, which has the folders `fit` and `test`")
    parser.add_argument("--constants", action="store_true", help="stream the questions to choose constants by; write nothing")
    arguments = parser.parse_args()
    with closing(Equivalence()) as equivalence:
        fit, test = (
            asyncio.run(read(sorted(arguments.pools.glob(f"*/{split}/{POOL}")), equivalence)) for split in ("fit", "test")
        )
    title = "The general estimate before the first token, as it is, and corrected by what the model's own answers showed"
    table = Table("learning", title, "benchmarks.learning POOLS")
    for pool in fit if arguments.constants else test:
        others = [one for one in fit if one.model != pool.model]
        ways = {"as shipped": GeneralPolicy.shipped(), "fitted to other models": GeneralPolicy(fit_general(others, PRICES))}
        for way, policy in ways.items():
            streams = [_stream(policy, pool, seed) for seed in range(ORDERS)]
            table.rows += [{"model": pool.model, "estimator": way, **row} for row in _rows(streams)]
    if not arguments.constants:
        table.save()
    print(table.markdown())


def _stream(policy: GeneralPolicy, pool: ModelQuestions, seed: int) -> np.ndarray:
    """Return (questions, 3): the estimate as it is, the corrected one, and whether the first answer was wrong, in a random order."""
    questions = list(pool.observed)
    random.Random(seed).shuffle(questions)
    learner, rows = Learner(clock=lambda: 0.0), []
    for one in questions:
        lessons = Lessons(learner, pool.model, "", "", "key", Words.of(one.text))
        difficulty = policy.difficulty(Query(one.kind, Effort.MEDIUM, one.text, token_flops=pool.token_flops, lessons=lessons))
        if difficulty is None:
            continue
        rule = ValueOfComputationRule(policy.estimators, difficulty.probability, 1.0, difficulty.lesson)
        rule.decide(one.trajectories[0][0].evidence)
        rows.append((difficulty.lesson.before, difficulty.probability, one.wrong))
        difficulty.lesson.close(gives_first=True)
    return np.array(rows)


def _rows(streams: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    num = len(streams[0])
    ends = [*(end for end in ENDS if end < num), num] if num < ENDS[-1] else ENDS
    rows = []
    for first, last in pairwise(ends):
        row: dict[str, Any] = {"questions": f"{first + 1} to {last}"}
        for name, score in SCORES.items():
            found = [[score(part[:, column], part[:, 2]) for column in (0, 1)] for part in (one[first:last] for one in streams)]
            plain, corrected = np.nanmean(found, axis=0)  # where all are right or all wrong, there is no AUROC
            row |= {name: f"{plain:.3f}", f"{name}, corrected": f"{corrected:.3f}"}
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
