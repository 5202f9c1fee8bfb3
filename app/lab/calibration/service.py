"""The service that answers while a pool is drawn: in this process, with the adapters that are measured and no others."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from adapters.names import AdapterRef
from adapters.weights import digest_of
from app.engine.base import Engine
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.pool import How
from app.lab.server import preloaded_folder
from app.serving.service import Service
from app.settings import Settings

ANSWERS, JUDGES = "reasoning", "verifier"
"""Names that the adapters have here."""

NO_LIMIT = 10**9
"""Of tokens and seconds: an answer that is cut by anything but its own length would be kept as a wrong one."""

EngineOf = Callable[[Settings], Engine]


@asynccontextmanager
async def serving(options: CalibrateOptions, engine_of: EngineOf) -> AsyncIterator[tuple[Service, How]]:
    """The service, and how what it answers is drawn."""
    from app.main import running  # noqa: PLC0415 - vLLM reads the environment that `engine_of` prepares

    given = {ANSWERS: options.adapter, JUDGES: options.verifier}
    adapters = {name: folder for name, folder in given.items() if folder is not None}
    with tempfile.TemporaryDirectory() as store, preloaded_folder(adapters) as (folder, rank):
        settings = Settings(
            model=options.model, adapter_dir=Path(store, "adapters"), policy_dir=Path(store, "policies"),
            adapter_preload_dir=folder, shipped_adapters=False, adapter_slots=len(adapters) + 1 if adapters else 0,
            max_adapter_rank=rank, max_tokens=options.max_tokens, max_request_tokens=NO_LIMIT, max_request_flops=None,
            max_request_seconds=NO_LIMIT, max_n=64, max_branches_per_key=4096, max_waiting_branches=4096, priorities=False,
        )  # fmt: skip
        async with running(settings, engine_of(settings)) as service:
            yield service, _how(options, service)


def _how(options: CalibrateOptions, service: Service) -> How:
    found = None if options.adapter is None or service.adapters is None else service.adapters.find(AdapterRef(ANSWERS))
    return How(
        model=Path(options.model).name,
        adapter=None if found is None else found.version,
        architecture=asdict(service.engine.card.architecture_with(found)),
        samples=options.samples,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        mended=min(options.mended, options.samples),
        attempts=options.attempts if options.mended else 1,
        verifier=digest_of(options.verifier) if options.verifier else None,
    )
