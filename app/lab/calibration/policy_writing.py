"""Builds the policy and the report from the files of a calibration."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from adapters.disk import write_whole
from app.lab.calibration.evaluation import evaluate_fixed_plan
from app.lab.calibration.exit_choice import MARGIN, choose_exits, policy_part
from app.lab.calibration.exit_replays import replays_of
from app.lab.calibration.exit_report import exit_tables
from app.lab.calibration.files import POLICY, REPORT, SEARCHES, THOUGHTS
from app.lab.calibration.fitting import MIN_QUESTIONS
from app.lab.calibration.fixed_plans import FixedPlan, fixed_plans
from app.lab.calibration.notes import curve_notes, label_notes, labels_provenance
from app.lab.calibration.observed_questions import ORDERS, observe
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.policy_building import build_policy
from app.lab.calibration.pool import PoolRefused, read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.calibration.searches import SearchRuns
from app.lab.calibration.tried_thoughts import TriedThoughts
from app.lab.progress import counting, say
from app.routing.agreement import shipped_agreement
from app.routing.ballots import ballots_of, labels_of
from app.routing.policy_file import Exits
from app.routing.pool_file import POOL, PoolEntry, PoolSettings
from strategies.answers.equivalence import Equivalence
from strategies.core.values import AnswerKind
from strategies.core.verifier import StrategyContext

MIN_KIND_SHARE = 0.05
"""A kind of answers counts as measured if at least this share of the questions has it."""

HURRIED_ORDERS = (4, 1)
"""The orders of the samples in which trajectories and fixed plans are replayed where there is a time limit."""


async def write_policy(options: CalibrateOptions, keys: Sequence[str], deadline: float | None = None) -> None:
    """Write the policy and the report, from the pool and the searches.

    Args:
        options: of the command.
        keys: of the questions that count. Those that are not in the pool are left out where there is a deadline.
        deadline: of the monotonic clock. Less is replayed where there is one, and what is not needed is left out once it is over.

    Raises:
        PoolRefused: the pool has too few of the questions.

    """
    from app.lab.calibration.report import report_page  # noqa: PLC0415 - matplotlib comes with an extra

    settings, entries = read_pool(options.out / POOL)
    by_key = {entry.key: entry for entry in entries}
    orders, fixed_orders = (ORDERS, ORDERS) if deadline is None else HURRIED_ORDERS
    with closing(Equivalence()) as equivalence:
        questions = await _questions([by_key[key] for key in keys if key in by_key], settings, options, equivalence)
        if len(questions) < MIN_QUESTIONS:
            raise PoolRefused(_too_few(len(questions), options))
        context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
        with counting("trajectories") as report:
            observed = await observe(questions, context, report, orders)
        fixed = await _evaluate_fixed_plans(settings, questions, context, fixed_orders, deadline)
        thoughts = TriedThoughts(options.out / THOUGHTS).of(keys, options.exits)
        replays = await replays_of(thoughts, equivalence) if len({one.key for one in thoughts}) >= MIN_QUESTIONS else None
    fixed += SearchRuns(options.out / SEARCHES).performances(keys, options.searches)
    chosen = [] if replays is None else choose_exits(replays)
    began = time.monotonic()
    result = build_policy(
        observed, fixed, model=settings.model, adapter=settings.adapter, architecture=settings.architecture,
        temperature=settings.temperature, attempts=settings.attempts, provenance=_provenance(options, settings, len(questions)),
        kinds=_measured_kinds(questions), exits=None if replays is None else policy_part(replays, chosen),
    )  # fmt: skip
    write_whole(options.out / POLICY, result.file.model_dump_json())
    notes = label_notes(options)
    if deadline is not None:
        # the curve takes about as long as the policy
        ended = time.monotonic()
        notes += curve_notes(observed, result.file, has_time=ended + 2 * (ended - began) < deadline)
    model = f"{settings.model} with an adapter" if settings.adapter else settings.model
    about = f"{model}, {len(questions)} questions of {(options.live or options.source).name}."
    tables = [] if replays is None else exit_tables(replays, chosen)
    write_whole(options.out / REPORT, report_page("Accuracy and cost of test-time compute", about, result, tables, notes))
    for note in notes:
        say(note)
    if result.file.exits is not None:
        say(_told(result.file.exits))
    say(f"the policy is {options.out / POLICY}, the report {options.out / REPORT}")


def _provenance(options: CalibrateOptions, settings: PoolSettings, num: int) -> dict[str, Any]:
    """Return how and when the policy was made, from so many questions, for people."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "ponder": version("ponder"), "questions": num,
        "data_sha256": hashlib.sha256(options.source.read_bytes()).hexdigest(), "how": settings.model_dump(mode="json"),
        "labels": labels_provenance(options),
    }  # fmt: skip


def _too_few(num: int, options: CalibrateOptions) -> str:
    if options.live is not None:
        return (
            f"{options.live} has {num} questions, and {MIN_QUESTIONS} are needed, hundreds are better: let the server keep more"
        )
    return (
        f"{num} questions were answered when the time was over, and {MIN_QUESTIONS} are needed: the same command "
        "resumes after them, and --minutes gives it more time"
    )


async def _questions(
    entries: Sequence[PoolEntry], settings: PoolSettings, options: CalibrateOptions, equivalence: Equivalence
) -> list[PooledQuestion]:
    """Return the questions as they were graded, or as probably right as the agreement model finds their answers."""
    if not options.unlabelled:
        return [PooledQuestion(entry, settings) for entry in entries]
    model = shipped_agreement()
    return [PooledQuestion(entry, settings, labels_of(await ballots_of(entry, equivalence), model)) for entry in entries]


def _told(exits: Exits) -> str:
    """Return one line for the operator about early exits."""
    if not exits.thresholds:
        return f"no threshold of early exits is within {MARGIN:.0%} of whole thinking and saves tokens: none is in the policy"
    best = exits.thresholds[0]
    return (
        f"early exits at a confidence ({best.confidence}) of {best.threshold:g} think {best.thinking:.0%} of the tokens of whole "
        f"thinking; the gain in accuracy is {best.accuracy:+.1%}"
    )


def _measured_kinds(questions: Sequence[PooledQuestion]) -> frozenset[AnswerKind]:
    """Return the kinds of answers that can be compared and that enough of the questions have."""
    counts = Counter(AnswerKind(one.entry.kind) for one in questions)
    least = MIN_KIND_SHARE * len(questions)
    kinds = {kind for kind, count in counts.items() if count >= least and kind is not AnswerKind.OPEN}
    if not kinds:
        raise PoolRefused("no answers of these questions can be compared: there is nothing to calibrate")
    return frozenset(kinds)


async def _evaluate_fixed_plans(
    settings: PoolSettings, questions: Sequence[PooledQuestion], context: StrategyContext, orders: int, deadline: float | None
) -> list[PlanPerformance]:
    """Replay the fixed plans. When the time is over, `direct` and those with the most answers are done: prices rest on these."""
    direct, *others = fixed_plans(settings)
    most = max((plan.n for plan in others), default=1)
    plans = [direct, *sorted(others, key=lambda plan: -plan.n)]
    found: dict[FixedPlan, PlanPerformance] = {}
    with counting("plans") as report:
        for plan in plans:
            if deadline is None or plan.n in (1, most) or time.monotonic() < deadline:
                found[plan] = await evaluate_fixed_plan(plan, questions, context, orders)
            report(len(found), len(plans))
    return [found[plan] for plan in (direct, *others) if plan in found]
