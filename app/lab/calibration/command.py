"""What `ponder calibrate` does: it fills a pool with the answers of a service, and builds a policy and a report from it."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from adapters.training.data import DatasetQuestion
from adapters.training.folders import check_adapter, exclusive_folder
from adapters.weights import digest_of
from app.engine.build import build_engine
from app.lab.calibration.files import SEARCHES, THOUGHTS
from app.lab.calibration.live import copy_live
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.policy_writing import write_policy
from app.lab.calibration.pool import Pool
from app.lab.calibration.questions import questions_of
from app.lab.calibration.sampling import PoolSampler
from app.lab.calibration.searches import SearchRuns, check_search
from app.lab.calibration.tried_thoughts import TriedThoughts
from app.lab.grading import AnswerGrader
from app.lab.progress import counting, say
from app.lab.service import EngineBuilder, LabService, start_service
from app.routing.pool_file import POOL, PoolSettings
from app.routing.pooled_answers import FIRST_TOKENS

ANSWERING_ADAPTER, VERIFIER_ADAPTER = "reasoning", "verifier"
"""The names of the adapters in the service."""

SAMPLING_SHARE = 0.85
"""The share of a time limit after which no more answers are sampled. The rest is for the fitting and the report."""

NUM_DRY_RUN_QUESTIONS = 4
"""The number of questions that a dry run answers."""


def calibrate(options: CalibrateOptions, build: EngineBuilder = build_engine) -> None:
    """Sample the answers that are missing in the pool, then build the policy and the report.

    Args:
        options: the options of the command.
        build: makes the engine, by default vLLM's.

    Raises:
        DataRefused: the data have a bad line, or none.
        MachineRefused: the folder of the result cannot be written.
        PoolRefused: the questions, the searches or the pool cannot be used.
        RecipeRefused: a folder holds no adapter, or another process works on that of the result.

    """
    with exclusive_folder(options.out, 0o777 if options.live is None else 0o700):  # live answers are their owner's alone
        _calibrate(options.completed(), build)


def _calibrate(options: CalibrateOptions, build: EngineBuilder) -> None:
    began = time.monotonic()
    deadline = None if options.minutes is None else began + 60 * options.minutes
    if options.live is not None:
        asyncio.run(write_policy(options, copy_live(options.live, options.out), deadline))
        return
    questions = questions_of(options)
    for search in options.searches:
        check_search(search)
    for folder in filter(None, (options.adapter, options.verifier)):
        check_adapter(folder)
    if options.dry_run:
        asyncio.run(_dry_run(options, questions, build))
        return
    sampling_deadline = None if options.minutes is None else began + 60 * options.minutes * SAMPLING_SHARE
    asyncio.run(_fill_pool(options, options.out, questions, build, sampling_deadline))
    asyncio.run(write_policy(options, [one.key for one in questions], deadline))


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


async def _fill_pool(
    options: CalibrateOptions,
    out: Path,
    questions: Sequence[DatasetQuestion],
    build: EngineBuilder,
    deadline: float | None = None,
) -> float:
    """Fill the pool until a deadline and run the searches; return the time at which the service had started, of the monotonic clock."""
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
                await sampler.fill(pool, questions, at_once=options.concurrency, report=report, deadline=deadline)
            if options.is_pool_only:
                return began
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
        is_labelled=not options.unlabelled,
        first_tokens=FIRST_TOKENS,
    )
