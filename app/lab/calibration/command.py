"""What `ponder calibrate` does: a service in this process, whose answers fill a pool."""

import asyncio
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from adapters.disk import write_whole
from adapters.names import AdapterRef
from adapters.training.data import DatasetQuestion, read_questions
from app.engine.build import build_engine
from app.lab.calibration.drawing import Drawer
from app.lab.calibration.evaluation import fixed_worth
from app.lab.calibration.fixed_plans import plans
from app.lab.calibration.observations import ORDERS, observe
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.policy_building import make
from app.lab.calibration.pool import How, Pool, PoolRefused, read_pool
from app.lab.calibration.questions import Question
from app.lab.calibration.searches import Searches, check_search
from app.lab.calibration.service import ANSWERS, JUDGES, EngineOf, serving
from app.lab.calibration.summary import Worth
from app.lab.grading import AnswerGrader
from app.lab.progress import counting, say
from strategies.answers.equivalence import Equivalence
from strategies.core.context import StrategyContext
from strategies.core.values import AnswerKind

POOL, SEARCHES, POLICY, REPORT = "pool.jsonl", "searches.jsonl", "policy.json", "report.html"

RARE = 0.05
"""Share of the questions below which a kind of answers is not taken for measured."""

FEWEST = 20
"""Questions that anything can be fitted to at all."""

REHEARSED = 4
"""Questions that a dry run asks."""


def calibrate(options: CalibrateOptions, engine_of: EngineOf = build_engine) -> None:
    """Draw what is missing in the pool, and make a policy of it. By default with vLLM."""
    questions = list({one.key: one for one in read_questions(options.data)}.values())
    if unanswered := sum(one.answer is None and one.verifier is None for one in questions):
        raise PoolRefused(
            f"{unanswered} questions of {options.data} have neither an `answer` nor a `verifier` to tell what is right"
        )
    if len(questions) < FEWEST:
        raise PoolRefused(f"{options.data} has {len(questions)} questions; {FEWEST} are needed, and hundreds are wanted")
    for search in options.searches:
        check_search(search)
    if options.dry_run:
        asyncio.run(_rehearse(options, questions, engine_of))
        return
    asyncio.run(_draw(options, options.out, questions, engine_of))
    asyncio.run(_make(options, [one.key for one in questions]))


async def _rehearse(options: CalibrateOptions, questions: Sequence[DatasetQuestion], engine_of: EngineOf) -> None:
    """Ask a few, spread over the file, into a pool that is thrown away."""
    some = questions[:: max(len(questions) // REHEARSED, 1)][:REHEARSED]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        began = await _draw(options, Path(folder), some, engine_of)
    seconds = (time.monotonic() - began) / len(some) * len(questions)
    told = f"{len(questions)} questions will take about {seconds / 60:.0f} minutes"
    say(f"{told}, by what {len(some)} of them took, and {began - start:.0f} s to start")


async def _draw(options: CalibrateOptions, out: Path, questions: Sequence[DatasetQuestion], engine_of: EngineOf) -> float:
    """Fill the pool, and run the searches; when the service had started, by the monotonic clock."""
    judging = AnswerGrader()
    try:
        async with serving(options, engine_of) as (service, how):
            began = time.monotonic()
            judge = JUDGES if options.verifier else None
            drawer = Drawer(service, AdapterRef(ANSWERS) if options.adapter else None, judge, judging, how)
            with counting("questions") as report:
                await drawer.fill(Pool(out / POOL, how), questions, at_once=options.concurrency, report=report)
            with counting("searches") as report:
                searches = Searches(out / SEARCHES)
                await searches.run(drawer, questions, options.searches, at_once=options.concurrency, report=report)
    finally:
        judging.close()
    return began


async def _make(options: CalibrateOptions, keys: Sequence[str]) -> None:
    """The policy and the report, from what was drawn."""
    from app.lab.calibration.report import page  # noqa: PLC0415 - matplotlib comes with an extra

    how, drawn = read_pool(options.out / POOL)
    by_key = {one.key: one for one in drawn}
    questions = [Question(by_key[key], how) for key in keys]
    equivalence = Equivalence()
    context = StrategyContext(equivalence=equivalence, vocab_size=how.flops.vocab_size)
    try:
        with counting("trajectories") as report:
            observed = await observe(questions, context, report)
        fixed = await _fixed(how, questions, context)
    finally:
        equivalence.close()
    fixed += Searches(options.out / SEARCHES).worths(keys, options.searches)
    provenance = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "ponder": version("ponder"), "questions": len(questions),
        "data_sha256": hashlib.sha256(options.data.read_bytes()).hexdigest(), "how": how.model_dump(mode="json"),
    }  # fmt: skip
    made = make(
        observed, fixed, model=how.model, adapter=how.adapter, architecture=how.architecture, temperature=how.temperature,
        attempts=how.attempts, provenance=provenance, kinds=_kinds(questions),
    )  # fmt: skip
    write_whole(options.out / POLICY, made.file.model_dump_json())
    about = f"{how.model}{' with an adapter' if how.adapter else ''}, {len(questions)} questions of {options.data.name}."
    write_whole(options.out / REPORT, page("What thinking is worth", about, made))
    say(f"{options.out / POLICY} is the policy, {options.out / REPORT} what it is worth")


def _kinds(questions: Sequence[Question]) -> frozenset[AnswerKind]:
    """Those that are more than an exception in the data, and can be compared."""
    counts = Counter(AnswerKind(one.drawn.kind) for one in questions)
    kinds = {kind for kind, count in counts.items() if count >= RARE * len(questions) and kind is not AnswerKind.OPEN}
    if not kinds:
        raise PoolRefused("no answers of these questions can be compared: there is nothing to calibrate")
    return frozenset(kinds)


async def _fixed(how: How, questions: Sequence[Question], context: StrategyContext) -> list[Worth]:
    tried, found = plans(how), []
    with counting("plans") as report:
        for number, plan in enumerate(tried, 1):
            found.append(await fixed_worth(plan, questions, context, ORDERS))
            report(number, len(tried))
    return found
