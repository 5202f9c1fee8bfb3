"""The composition root: `create_app` builds the server over the pools that `app.lifespan` runs."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from app.api import adapters, chat, errors, feedback, models, openapi, ops, playground, policies, replicas, tokenize, traces
from app.api.access import Access, KnownCallers
from app.api.anthropic import routes as anthropic
from app.api.anthropic.errors import AnthropicErrors
from app.api.body import refuse_lone_surrogates
from app.api.lenience import Decompression, Lenience
from app.api.middleware import BodyLimit, LocalHost, RequestId, UnexpectedErrors
from app.api.responses import routes as responses
from app.engine.base import Engine
from app.images.decoding import encoded_bytes
from app.lifespan import VERSION, running
from app.routing.planner import AUTO
from app.settings import Settings
from strategies.plugins import load_registries
from strategies.registry import Registries


def _routes(*routers: APIRouter) -> tuple[BaseRoute, ...]:
    """Return the routes of all these, each with the check that every JSON body must pass."""
    together = APIRouter(dependencies=[Depends(refuse_lone_surrogates)])
    for router in routers:
        together.include_router(router)
    return tuple(together.routes)


_PARTS = (chat, anthropic, responses, tokenize, models, traces, feedback, adapters, policies, replicas, ops)
ROUTES = _routes(*(part.router for part in _PARTS))
"""Made once, since making them takes longer than all else of an app, and tests make thousands of apps."""
PLAYGROUND_ROUTES = _routes(playground.router)


def create_app(
    settings: Settings,
    *engines: Engine,
    registries: Registries | None = None,
    on_engine_death: Callable[[str], None] = lambda _reason: None,
    is_draining: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """Return an app that serves these engines, those of `Settings.of_pools` in its order.

    Args:
        settings: how the server is run. The engines were already built with the settings of the models and of the engines.
        engines: started and closed by the app's lifespan.
        registries: the strategies and verifiers to serve; by default the built-in ones, those of installed packages, and those of the
            settings. Raises `PluginError` where one of them cannot be used.
        on_engine_death: called once when an engine dies; the process should end, so that its supervisor starts it again.
        is_draining: whether the process has been told to stop.

    """
    registries = load_registries(settings.plugins) if registries is None else registries

    def max_body_bytes(path: str) -> int:
        """Return the most bytes of a body: one that uploads an adapter is larger, and one with images where the model reads them."""
        if path == "/v1/adapters":
            return settings.max_adapter_bytes + settings.max_body_bytes  # the form around the files takes a little more
        reads_images = any(engine.card.max_images for engine in engines)
        return settings.max_body_bytes + (encoded_bytes(settings.max_image_bytes) if reads_images else 0)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            running(settings, *engines, on_engine_death=on_engine_death, registries=registries) as pools,
            responses.running(settings, max_body_bytes(""), pools.first.shared) as kept,
        ):
            app.state.responses = kept
            app.state.pools = pools
            app.state.created = int(time.time())
            yield

    app = FastAPI(title="ponder", version=VERSION, lifespan=lifespan, root_path=settings.root_path, redirect_slashes=False)
    app.state.access = Access(settings.api_keys, settings.admin_keys)
    app.state.settings = settings
    app.state.keep_alive = settings.keep_alive_seconds
    app.state.is_draining = is_draining
    app.router.routes.extend(ROUTES)
    if settings.playground:
        app.state.playground = playground.packaged()
        app.router.routes.extend(PLAYGROUND_ROUTES)
    errors.install(app)
    _add_middleware(app, settings, max_body_bytes)
    strategies = (AUTO, *registries.strategies.names())
    # FastAPI's own way to change the document is to replace the method.
    app.openapi = lambda: openapi.document(app, strategies, has_keys=bool(settings.api_keys))  # type: ignore[method-assign]
    return app


def _add_middleware(app: FastAPI, settings: Settings, max_body_bytes: Callable[[str], int]) -> None:
    """Add the layers around the routes. The last one added is the first to see a request."""
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, max_values=settings.max_body_bytes // 2)
    app.add_middleware(Decompression)
    app.add_middleware(Lenience, root_path=settings.root_path)
    if settings.api_keys:
        app.add_middleware(KnownCallers, access=app.state.access)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=("*",),  # keys are in a header that the page sets, never in a cookie, so the wildcard holds
        )
    if not settings.api_keys:
        app.add_middleware(LocalHost, host=settings.host)
    app.add_middleware(AnthropicErrors)
    app.add_middleware(RequestId)
