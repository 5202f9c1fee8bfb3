"""What `ponder calibrate` does: it fills a pool with the answers of a service, and builds a policy and a report from it."""

import asyncio
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from adapters.disk import write_whole
from adapters.training.data import DatasetQuestion, read_questions
from adapters.weights import digest_of
from app.engine.build import build_engine
from app.lab.calibration.evaluation import evaluate_fixed_plan
from app.lab.calibration.exit_choice import MARGIN, choose_exits, policy_part
from app.lab.calibration.exit_replays import replays_of
from app.lab.calibration.exit_report import exit_tables
from app.lab.calibration.fitting import MIN_QUESTIONS
from app.lab.calibration.fixed_plans import fixed_plans
from app.lab.calibration.observed_questions import ORDERS, observe
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.policy_building import build_policy
from app.lab.calibration.pool import Pool, PoolRefused, PoolSettings, read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.calibration.sampling import FIRST_TOKENS, PoolSampler
from app.lab.calibration.searches import SearchRuns, check_search
from app.lab.calibration.tried_thoughts import TriedThoughts
from app.lab.grading import AnswerGrader
from app.lab.progress import counting, say
from app.lab.service import EngineBuilder, LabService, start_service
from app.routing.policy_file import Exits
from strategies.answers.equivalence import Equivalence
from strategies.core.values import AnswerKind
from strategies.core.verifier import StrategyContext

POOL, SEARCHES, THOUGHTS, POLICY, REPORT = "pool.jsonl", "searches.jsonl", "thoughts.jsonl", "policy.json", "report.html"

ANSWERING_ADAPTER, VERIFIER_ADAPTER = "reasoning", "verifier"
"""The names of the adapters in the service."""

MIN_KIND_SHARE = 0.05
"""A kind of answers counts as measured if at least this share of the questions has it."""

NUM_DRY_RUN_QUESTIONS = 4
"""The number of questions that a dry run answers."""


def calibrate(options: CalibrateOptions, build: EngineBuilder = build_engine) -> None:
    """Sample the answers that are missing in the pool, then build the policy and the report.

    Args:
        options: the options of the command.
        build: makes the engine, by default vLLM's.

    Raises:
        PoolRefused: the questions, the searches or the pool cannot be used.

    """
    questions = list({one.key: one for one in read_questions(options.data)}.values())
    if unanswered := sum(one.answer is None and one.verifier is None for one in questions):
        raise PoolRefused(
            f"{unanswered} questions of {options.data} have neither an `answer` nor a `verifier` to tell what is right"
        )
    if len(questions) < MIN_QUESTIONS:
        raise PoolRefused(
            f"{options.data} has {len(questions)} questions; at least {MIN_QUESTIONS} are needed, hundreds are better"
        )
    for search in options.searches:
        check_search(search)
    if options.dry_run:
        asyncio.run(_dry_run(options, questions, build))
        return
    asyncio.run(_fill_pool(options, options.out, questions, build))
    asyncio.run(_build_policy(options, [one.key for one in questions]))


async def _dry_run(options: CalibrateOptions, questions: Sequence[DatasetQuestion], build: EngineBuilder) -> None:
    """Answer a few questions into a temporary pool, and print how long all of them would take."""
    # The questions are spread over the file, since data are often sorted by difficulty.
    some = questions[:: max(len(questions) // NUM_DRY_RUN_QUESTIONS, 1)][:NUM_DRY_RUN_QUESTIONS]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        began = await _fill_pool(options, Path(folder), some, build)
    minutes = (time.monotonic() - began) / len(some) * len(questions) / 60
    say(
        f"{len(questions)} questions will take about {minutes:.0f} minutes, estimated from {len(some)} of them; "
        f"the start took {began - start:.0f} s"
    )


async def _fill_pool(options: CalibrateOptions, out: Path, questions: Sequence[DatasetQuestion], build: EngineBuilder) -> float:
    """Fill the pool and run the searches; return the time at which the service had started, of the monotonic clock."""
    folders = {ANSWERING_ADAPTER: options.adapter, VERIFIER_ADAPTER: options.verifier}
    adapters = {name: folder for name, folder in folders.items() if folder is not None}
    adapter = ANSWERING_ADAPTER if options.adapter else None
    verifier = VERIFIER_ADAPTER if options.verifier else None
    with closing(AnswerGrader()) as grader:
        async with start_service(options.model, adapters, max_tokens=options.max_tokens, build=build) as service:
            began = time.monotonic()
            settings = _pool_settings(options, service)
            sampler = PoolSampler(service, adapter, verifier, grader, settings)
            with counting("questions") as report:
                pool = Pool(out / POOL, settings)
                await sampler.fill(pool, questions, at_once=options.concurrency, report=report)
            with counting("thoughts") as report:
                entries = [(question, pool.entries[question.key]) for question in questions]
                thoughts = TriedThoughts(out / THOUGHTS)
                await thoughts.run(sampler, entries, options.exits, at_once=options.concurrency, report=report)
            with counting("searches") as report:
                runs = SearchRuns(out / SEARCHES)
                await runs.run(sampler, questions, options.searches, at_once=options.concurrency, report=report)
    return began


def _pool_settings(options: CalibrateOptions, service: LabService) -> PoolSettings:
    adapter = ANSWERING_ADAPTER if options.adapter else None
    return PoolSettings(
        model=Path(options.model).name,
        adapter=service.version_of(adapter),
        architecture=service.architecture_of(adapter),
        samples=options.samples,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        backtracked=min(options.backtracked, options.samples),
        attempts=options.attempts if options.backtracked else 1,
        verifier=digest_of(options.verifier) if options.verifier else None,
        alternatives=options.alternatives,
        first_tokens=FIRST_TOKENS,
    )


async def _build_policy(options: CalibrateOptions, keys: Sequence[str]) -> None:
    """Write the policy and the report, from the pool and the searches."""
    from app.lab.calibration.report import report_page  # noqa: PLC0415 - matplotlib comes with an extra

    settings, entries = read_pool(options.out / POOL)
    by_key = {entry.key: entry for entry in entries}
    questions = [PooledQuestion(by_key[key], settings) for key in keys]
    with closing(Equivalence()) as equivalence:
        context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
        with counting("trajectories") as report:
            observed = await observe(questions, context, report)
        fixed = await _evaluate_fixed_plans(settings, questions, context)
        thoughts = TriedThoughts(options.out / THOUGHTS).of(keys, options.exits)
        replays = await replays_of(thoughts, equivalence) if len({one.key for one in thoughts}) >= MIN_QUESTIONS else None
    fixed += SearchRuns(options.out / SEARCHES).performances(keys, options.searches)
    provenance = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "ponder": version("ponder"), "questions": len(questions),
        "data_sha256": hashlib.sha256(options.data.read_bytes()).hexdigest(), "how": settings.model_dump(mode="json"),
    }  # fmt: skip
    chosen = [] if replays is None else choose_exits(replays)
    result = build_policy(
        observed, fixed, model=settings.model, adapter=settings.adapter, architecture=settings.architecture,
        temperature=settings.temperature, attempts=settings.attempts, provenance=provenance, kinds=_measured_kinds(questions),
        exits=None if replays is None else policy_part(replays, chosen),
    )  # fmt: skip
    write_whole(options.out / POLICY, result.file.model_dump_json())
    model = f"{settings.model} with an adapter" if settings.adapter else settings.model
    about = f"{model}, {len(questions)} questions of {options.data.name}."
    tables = [] if replays is None else exit_tables(replays, chosen)
    write_whole(options.out / REPORT, report_page("Accuracy and cost of test-time compute", about, result, tables))
    if result.file.exits is not None:
        say(_told(result.file.exits))
    say(f"the policy is {options.out / POLICY}, the report {options.out / REPORT}")


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
    settings: PoolSettings, questions: Sequence[PooledQuestion], context: StrategyContext
) -> list[PlanPerformance]:
    plans, found = fixed_plans(settings), []
    with counting("plans") as report:
        for number, plan in enumerate(plans, 1):
            found.append(await evaluate_fixed_plan(plan, questions, context, ORDERS))
            report(number, len(plans))
    return found
