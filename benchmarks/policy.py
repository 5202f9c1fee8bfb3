"""What a policy is worth on questions that nothing was fitted to: against all fixed plans, the oracle, and on families left out.

`python -m benchmarks.policy MEASURED TEST --name NAME`: both are folders that `ponder calibrate` filled; the policy of the first is judged
on the pool of the second, of which no question may be in the first. Without a TEST, each fold of the first by what the others taught.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.lab.calibration.command import POLICY, POOL, SEARCHES
from app.lab.calibration.evaluation import fixed_worth, policy_worth
from app.lab.calibration.fitting import Observed, fit
from app.lab.calibration.fixed_plans import plans
from app.lab.calibration.observations import ORDERS, observe
from app.lab.calibration.plots import picture
from app.lab.calibration.policy_building import Made, make
from app.lab.calibration.pool import Drawn, How, read_pool
from app.lab.calibration.pricing import bins_of, policy_of
from app.lab.calibration.questions import Question
from app.lab.calibration.report import Rows, by_bin, moments, regret
from app.lab.calibration.report import plans as plan_rows
from app.lab.calibration.searches import Searches
from app.lab.calibration.summary import Worth
from app.lab.progress import counting
from app.request import Effort
from app.routing.calibrated import CalibratedPolicy
from app.routing.policies import read_policy
from app.routing.policy import Query
from app.routing.policy_file import PolicyFile
from benchmarks.report import Table
from strategies.answers.equivalence import Equivalence
from strategies.core.context import StrategyContext
from strategies.core.values import AnswerKind

RESULTS = Path(__file__).parent / "results" / "policy"
TIMED = 5
"""Times that each prompt is asked for its plan."""


@dataclass(frozen=True)
class Pool:
    """A folder that was filled."""

    how: How
    drawn: Sequence[Drawn]
    observed: Sequence[Observed]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description=__doc__)
    parser.add_argument("measured", type=Path, help="folder with policy.json and the pool that it was fitted to")
    parser.add_argument("test", type=Path, nargs="?", help="folder with the pool that it is judged on")
    parser.add_argument("--name", required=True, help="of the model, for titles and files")
    arguments = parser.parse_args()
    file = read_policy(arguments.measured / POLICY)
    equivalence = Equivalence()
    try:
        asyncio.run(_judge(arguments, file, equivalence))
    finally:
        equivalence.close()


async def _judge(arguments: argparse.Namespace, file: PolicyFile, equivalence: Equivalence) -> None:
    learned = await _pool(arguments.measured, equivalence)
    if arguments.test is None:
        asked, command, how = learned, "MEASURED", "questions in folds"
        made = make(learned.observed, await _fixed(arguments.measured, learned, equivalence), model=file.model)
    else:
        asked, command, how = await _pool(arguments.test, equivalence), "MEASURED TEST", "questions that nothing was fitted to"
        if shared := {one.key for one in asked.drawn} & {one.key for one in learned.drawn}:
            raise SystemExit(f"{len(shared)} questions of the test are among those that were fitted to")
        made = _worth(file, asked, await _fixed(arguments.test, asked, equivalence))
    left_out = _left_out(learned, asked) if asked is not learned else []
    about = f"{arguments.name}, {len(asked.drawn)} {how}"
    _save(arguments.name, about, f"benchmarks.policy {command}", made, [*left_out, _latency(file, asked)])


def _save(name: str, about: str, command: str, made: Made, beside: Rows) -> None:
    """The tables and the picture; `beside` are rows of what is said of difficulty."""
    tables = {
        "plans": (f"Plans, {about}", plan_rows(made)),
        "bins": (f"By predicted difficulty: right, for GFLOP a question; {about}", by_bin(made)),
        "regret": (f"Regret of `auto`; {about}", regret(made)),
        "difficulty": (f"Difficulty; {about}", [*moments(made.moments), *beside]),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part, (title, rows) in tables.items():
        table = Table(f"policy/{name}-{part}", title, command, _named(rows))
        table.save()
        print(table.markdown())
    (RESULTS / f"{name}.png").write_bytes(picture(about, made))


async def _pool(folder: Path, equivalence: Equivalence) -> Pool:
    how, drawn = read_pool(folder / POOL)
    with counting(folder.name) as report:
        observed = await observe([Question(one, how) for one in drawn], _tools(how, equivalence), report)
    return Pool(how, drawn, observed)


async def _fixed(folder: Path, pool: Pool, equivalence: Equivalence) -> list[Worth]:
    questions = [Question(one, pool.how) for one in pool.drawn]
    found = [await fixed_worth(plan, questions, _tools(pool.how, equivalence), ORDERS) for plan in plans(pool.how)]
    searches = Searches(folder / SEARCHES)
    return [*found, *searches.worths([one.key for one in pool.drawn], searches.names)]


def _tools(how: How, equivalence: Equivalence) -> StrategyContext:
    return StrategyContext(equivalence=equivalence, vocab_size=how.flops.vocab_size)


def _worth(file: PolicyFile, test: Pool, fixed: Sequence[Worth]) -> Made:
    judged = {effort: policy_worth(file, effort, test.observed) for effort in Effort}
    _, difficulties, ended = judged[Effort.HIGH]
    hard = np.array([one.is_hard for one in test.observed])
    first = np.array([each[0].first for each in ended])
    seen = {"before the first token": (difficulties, hard), "after the first answer": (first, hard)}
    autos = {effort: auto for effort, (auto, *_) in judged.items()}
    return Made(file, fixed, autos, bins_of(difficulties, file.edges), seen)


def _left_out(learned: Pool, test: Pool) -> Rows:
    """Both moments on each family by what the others taught, all families together."""
    before, first, hard = [], [], []
    for task in sorted({one.task for one in test.observed}):
        others = [one for one in learned.observed if one.task != task]
        asked = [one for one in test.observed if one.task == task]
        file = policy_of(fit(others), others, model="others")
        _, difficulties, ended = policy_worth(file, Effort.HIGH, asked)
        before += difficulties.tolist()
        first += [each[0].first for each in ended]
        hard += [one.is_hard for one in asked]
    truth = np.array(hard)
    names = ("before the first token, family left out", "after the first answer, family left out")
    seen = {name: (np.array(values), truth) for name, values in zip(names, (before, first), strict=True)}
    return moments(seen)[1:]


def _latency(file: PolicyFile, test: Pool) -> Sequence[str]:
    policy, times = CalibratedPolicy(file), []
    for one in [*test.observed] * TIMED:
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


def _named(rows: Rows) -> list[dict[str, str]]:
    head, *body = rows
    return [dict(zip(head, row, strict=True)) for row in body]


if __name__ == "__main__":
    main()
