"""The service without HTTP: `running` puts its parts together, starts the engine, and closes everything."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from adapters import preload
from adapters.object_store import ObjectStore
from adapters.ports import SharedHost
from adapters.registry import AdapterRegistry
from adapters.store import AdapterStore
from adapters.weights import BaseModel
from app.admission import Admission
from app.engine.base import Engine
from app.images.fetching import ImageFetcher
from app.images.loading import ImageLimits, ImageLoader
from app.metering.budget import Budget
from app.request import Limits
from app.reward_models.client import RewardModel
from app.routing.general import GeneralPolicy
from app.routing.planner import Planner
from app.routing.policies import Policies
from app.search_traces import SearchTraces
from app.serving.accounting import Observers
from app.serving.feedback import Feedback
from app.serving.learned import keeping, open_learner, rows_of
from app.serving.live_calibration import LiveCalibration
from app.serving.live_pool import LivePools
from app.serving.live_sampler import LiveSampler
from app.serving.planning import Planning
from app.serving.pools import Pools
from app.serving.service import Service
from app.settings import DEFAULT_MODEL, Settings
from app.shared.alone import NotShared
from app.telemetry.adapter_metrics import OTHER
from app.telemetry.energy import Energy, find_counters
from app.telemetry.metrics import Metrics
from app.telemetry.spans import Tracer, span_of
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext
from strategies.registry import BUILT_IN, Registries

logger = logging.getLogger("ponder")

ENGINE_CHECK_S = 0.2

VERSION = metadata.version("ponder")

SHIPPED = Path(__file__).parent / "routing" / "shipped"
"""Folder of the policies that ship with the embedded model and its adapters. Each file has the name under which they are served."""


@dataclass(frozen=True, slots=True)
class _Common:
    """What all base models of a server have in common."""

    equivalence: Equivalence
    reward_models: dict[str, RewardModel]
    images: ImageLoader
    registries: Registries
    metrics: Metrics
    traces: SearchTraces
    feedback: Feedback
    tracer: Tracer


@asynccontextmanager
async def running(
    settings: Settings,
    *engines: Engine,
    on_engine_death: Callable[[str], None] = lambda _reason: None,
    registries: Registries = BUILT_IN,
) -> AsyncIterator[Pools]:
    """Run the service without HTTP: start the engines, load the adapters, and close everything at the end of the block.

    The engines are those of `Settings.of_pools`, in its order.
    """
    equivalence = Equivalence()
    try:
        for engine in engines:
            await _start(engine)
        async with (
            _tracing(settings, engines[0].card.name) as tracer,
            _reward_models(settings) as reward_models,
            _images(settings) as images,
        ):
            metrics = Metrics()
            common = _Common(
                equivalence, reward_models, images, registries, metrics,
                SearchTraces(settings.max_traces, settings.max_trace_chars),
                Feedback(settings.feedback_path and settings.feedback_path.expanduser(), metrics), tracer,
            )  # fmt: skip
            names = frozenset(one.name for one in settings.of_pools())
            pools = Pools(
                *(_service(own, engine, common, names) for own, engine in zip(settings.of_pools(), engines, strict=True))
            )
            pools.first.shared.publish_traces(common.traces.names)
            metrics.export_shared_state(pools.first.shared)
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(_energy(metrics))
                for own, service in zip(settings.of_pools(), pools, strict=True):
                    await _run_pool(stack, own, service, on_engine_death)
                yield pools
    finally:
        for engine in engines:
            await engine.close()
        equivalence.close()


async def _start(engine: Engine) -> None:
    await engine.start()
    if engine.card.has_estimated_flops:
        logger.warning(
            "FLOPs are estimated: the architecture of %s, or of what drafts for it, is not among those that are counted",
            engine.card.name,
        )


async def _run_pool(stack: AsyncExitStack, settings: Settings, service: Service, on_death: Callable[[str], None]) -> None:
    """Watch the engine of a base model, and serve its adapters, until the end of the stack."""
    for one in (
        _watched(service.engine, service.admission, on_death),
        _stored_adapters(service.adapters),
        keeping(service.planning.planner.learner, settings.policy_dir.expanduser()),
        service.shared.running(),
        _adapters(settings, service.adapters, service.shared),
        nullcontext() if (live := service.observers.live) is None else live.running(),
    ):
        await stack.enter_async_context(one)


@asynccontextmanager
async def _tracing(settings: Settings, model: str) -> AsyncIterator[Tracer]:
    """Give the tracer for the operator's collector. Without a collector in the settings, OpenTelemetry is not imported."""
    if settings.otlp_endpoint is None:
        yield Tracer()
        return
    from app.telemetry.otel import OtelTracer  # noqa: PLC0415 - comes with an extra

    tracer = OtelTracer(str(settings.otlp_endpoint), settings.trace_sample_ratio, model=model, version=VERSION)
    try:
        yield tracer
    finally:
        await tracer.close()


@asynccontextmanager
async def _reward_models(settings: Settings) -> AsyncIterator[dict[str, RewardModel]]:
    """Give the clients of the reward models that the operator runs elsewhere, by their names."""
    clients = {
        name: RewardModel(name, options, trace_headers=lambda model: span_of(model).headers)
        for name, options in settings.reward_models.items()
    }
    try:
        yield clients
    finally:
        for client in clients.values():
            await client.close()


@asynccontextmanager
async def _images(settings: Settings) -> AsyncIterator[ImageLoader]:
    """Give what loads the images of conversations."""
    fetcher = ImageFetcher(settings.allowed_media_domains, settings.image_fetch_seconds)
    try:
        yield ImageLoader(ImageLimits(settings.max_image_bytes, settings.max_image_pixels), fetcher)
    finally:
        await fetcher.close()


def _shared_state(settings: Settings) -> NotShared:
    """Return what this front end shares with others. Without a store in the settings, its client is not imported."""
    if settings.shared_state_url is None:
        return NotShared()
    from app.shared.state import SharedState  # noqa: PLC0415 - comes with an extra

    keys = (*settings.api_keys, *settings.admin_keys)
    return SharedState(settings.shared_state_url, settings.shared_state_prefix, settings.own_url, keys)


def _service(settings: Settings, engine: Engine, common: _Common, names: frozenset[str]) -> Service:
    """Return the service of one base model. `names` are those of all base models."""
    shared = _shared_state(settings)
    slots = engine.card.max_branches
    admission = Admission(
        num_slots=slots,
        max_branches=slots + settings.max_waiting_branches,
        max_branches_per_key=settings.max_branches_per_key,
        has_priorities=settings.priorities,
        elsewhere=shared.branches_elsewhere,
    )
    shared.publish_branches(lambda: admission.branches_by_owner)
    common.metrics.export_pool(engine, admission, common.registries.strategies.names())
    limits = Limits(
        max_n=settings.max_n,
        max_prompt_chars=settings.max_prompt_chars,
        budget=Budget(
            settings.max_request_tokens,
            settings.max_request_flops,
            settings.max_request_seconds,
            settings.max_thinking_tokens,
            thinking_landing=settings.thinking_landing,
        ),
    )
    context = StrategyContext(
        equivalence=common.equivalence, vocab_size=engine.card.architecture.vocab_size, reward_models=common.reward_models
    )
    adapters = _registry(settings, engine, common.metrics, shared, names) if engine.card.adapter_slots else None
    policies = Policies(settings.policy_dir.expanduser(), SHIPPED if settings.shipped_adapters else None, shared.policies)
    shared.follow_policies(policies.follow)
    learner = open_learner(settings.policy_dir.expanduser()) if settings.learning else None
    if learner is not None:
        common.metrics.learning.add(partial(rows_of, learner))
        policies.on_choice = learner.trust_again
    live = _live_calibration(settings, LiveSampler(engine, admission, adapters, limits.budget), common)
    planner = Planner(policies, GeneralPolicy.shipped(), engine.card, Path(settings.model).name, adapters, learner=learner)
    return Service(
        engine,
        planning=Planning(planner, context, limits, common.registries),
        admission=admission,
        observers=Observers(common.metrics, common.traces, common.feedback, common.tracer, live=live),
        images=common.images,
        adapters=adapters,
        shared=shared,
    )


def _live_calibration(settings: Settings, sampler: LiveSampler, common: _Common) -> LiveCalibration | None:
    """Return what calibrates a base model from its traffic, None where the settings switch it off."""
    if not settings.live_calibration_share:
        return None
    folder, base = settings.live_calibration_dir.expanduser(), Path(settings.model).name
    return LiveCalibration(
        settings.live_calibration_share,
        LivePools(folder, sampler.card, base, settings.default_max_tokens),
        sampler,
        common.equivalence,
        common.metrics.live,
        has_keys=len(settings.api_keys) > 1,
    )


def _registry(
    settings: Settings, engine: Engine, metrics: Metrics, shared: NotShared, names: frozenset[str]
) -> AdapterRegistry:
    card = engine.card
    base = BaseModel(card.name, card.architecture.num_layers, card.architecture.linear_modules)
    registry = AdapterRegistry(
        AdapterStore(
            settings.adapter_dir.expanduser(),
            base,
            max_rank=card.max_adapter_rank,
            objects=None if settings.adapter_store_url is None else ObjectStore(settings.adapter_store_url),
        ),
        engine,
        slots=card.adapter_slots,
        max_wait=settings.adapter_wait_seconds,
        reserved=names | {card.name, OTHER},
        observer=metrics.adapters,
        agreement=shared.adapters,
    )
    shared.follow_adapters(registry)
    if isinstance(engine, SharedHost):
        engine.share(shared.is_held_elsewhere)
    metrics.adapters.export_state(registry)
    return registry


@asynccontextmanager
async def _stored_adapters(registry: AdapterRegistry | None) -> AsyncIterator[None]:
    """Serve the adapters that are stored."""
    async with registry.running() if registry is not None else nullcontext():
        yield


@asynccontextmanager
async def _adapters(settings: Settings, registry: AdapterRegistry | None, shared: NotShared) -> AsyncIterator[None]:
    """Serve the shipped adapters, and those of the preload folder, which is watched if the settings say so."""
    if registry is None:
        yield
        return
    await _add_folders(settings, registry)
    tasks = []
    folder = settings.adapter_preload_dir
    if folder is not None and settings.adapter_watch:
        tasks.append(asyncio.create_task(preload.watch_folder(registry, folder.expanduser(), settings.max_adapter_bytes)))
    if shared.is_up is False:
        tasks.append(asyncio.create_task(_add_folders_later(settings, registry, shared)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _add_folders(settings: Settings, registry: AdapterRegistry) -> None:
    shipped = preload.SHIPPED / settings.model
    if settings.shipped_adapters and settings.model == DEFAULT_MODEL and shipped.is_dir():
        await preload.add_folder(registry, shipped, settings.max_adapter_bytes, origin="shipped", keep_others=True)
    else:
        await preload.stop_serving(registry, "shipped")
    if settings.adapter_preload_dir is not None:
        await preload.add_folder(registry, settings.adapter_preload_dir.expanduser(), settings.max_adapter_bytes)


async def _add_folders_later(settings: Settings, registry: AdapterRegistry, shared: NotShared) -> None:
    """Add what could not be added at the start, because the other front ends could not be told."""
    await shared.returned()
    await _add_folders(settings, registry)


@asynccontextmanager
async def _energy(metrics: Metrics) -> AsyncIterator[None]:
    """Count the joules that the machine uses, if it has counters for them."""
    counters = await asyncio.to_thread(find_counters)
    reader = asyncio.create_task(Energy(counters, metrics).run()) if counters else None
    try:
        yield
    finally:
        if reader is not None:
            reader.cancel()


@asynccontextmanager
async def _watched(engine: Engine, admission: Admission, on_death: Callable[[str], None]) -> AsyncIterator[None]:
    async def watch() -> None:
        while (failure := engine.failure) is None:
            if engine.card.max_branches != admission.num_slots:  # replicas have come or gone
                admission.resize(engine.card.max_branches)
            await asyncio.sleep(ENGINE_CHECK_S)
        logger.critical("the engine is dead: %s", failure)
        on_death(failure)

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
