"""What `ponder calibrate` does: a service in this process, whose answers fill a pool."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from adapters.names import Ref
from adapters.training.data import Question, read_questions
from adapters.weights import digest_of
from app.calibration.drawing import Drawer
from app.calibration.options import CalibrateOptions
from app.calibration.pool import How, Pool
from app.engine.build import build_engine
from app.service import Service
from app.settings import Settings
from app.training.judging import Judging
from app.training.server import preloaded_folder
from app.training.surroundings import counting

ANSWERS, JUDGES = "reasoning", "verifier"
"""Names under which adapters are served while a pool is drawn."""


def calibrate(options: CalibrateOptions) -> None:
    """Draw what is missing in the pool."""
    asyncio.run(_draw(options, read_questions(options.data)))


async def _draw(options: CalibrateOptions, questions: Sequence[Question]) -> None:
    given = {ANSWERS: options.adapter, JUDGES: options.verifier}
    adapters = {name: folder for name, folder in given.items() if folder is not None}
    judging = Judging()
    try:
        async with _service(options, adapters) as service:
            how = _how(options, service)
            pool = Pool(options.out / "pool.jsonl", how)
            judge = JUDGES if options.verifier else None
            drawer = Drawer(service, Ref(ANSWERS) if options.adapter else None, judge, judging, how)
            with counting("questions") as report:
                await drawer.fill(pool, questions, at_once=options.concurrency, report=report)
    finally:
        judging.close()


def _how(options: CalibrateOptions, service: Service) -> How:
    architecture = service.engine.card.architecture
    if options.adapter is not None and service.adapters is not None:
        architecture = architecture.with_lora(service.adapters.find(Ref(ANSWERS)).parameters)
    return How(
        model=Path(options.model).name,
        adapter=digest_of(options.adapter) if options.adapter else None,
        architecture=asdict(architecture),
        samples=options.samples,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        verifier=digest_of(options.verifier) if options.verifier else None,
    )


@asynccontextmanager
async def _service(options: CalibrateOptions, adapters: Mapping[str, Path]) -> AsyncIterator[Service]:
    """One of our own, with these adapters and no others."""
    from app.main import running  # noqa: PLC0415 - vLLM reads the environment that `build_engine` prepares

    with tempfile.TemporaryDirectory() as store, preloaded_folder(adapters) as (folder, rank):
        settings = Settings(
            model=options.model, adapter_dir=Path(store), adapter_preload_dir=folder, shipped_adapters=False,
            adapter_slots=len(adapters) + 1 if adapters else 0, max_adapter_rank=rank, max_n=64, max_branches_per_key=4096,
            max_waiting_branches=4096, priorities=False,
        )  # fmt: skip
        async with running(settings, build_engine(settings)) as service:
            yield service
