"""Routes for operators: liveness, readiness, metrics."""

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from app.api.access import administrator
from app.api.errors import RESPONSES
from app.api.pools import pools_of
from app.telemetry.pages import joined
from app.telemetry.registry import OPENMETRICS, TEXT

router = APIRouter()

DEGRADED = (
    "adapters and policies: no changes",
    "quotas: this front end alone",
    "responses: those that this front end has",
    "traces: those of this front end",
)
"""What `/ready` tells while the shared state is lost. The server is ready all the same: it serves on with what it knows."""


@router.get("/health", responses={503: {"description": "The engine is dead."}})
async def health(request: Request) -> JSONResponse:
    """Tell whether the engine lives. If not, the process should be restarted."""
    failure = pools_of(request).failure
    return JSONResponse({"status": failure or "ok"}, 503 if failure else 200)


@router.get("/ready", responses={503: {"description": "Not now: starting, draining, or dead."}})
async def ready(request: Request) -> JSONResponse:
    """Tell whether new requests should be sent to this server."""
    pools = pools_of(request)
    outages = pools.outages
    # As long as one model answers, requests for it shall come here.
    failure = pools.failure or (next(iter(outages.values())) if len(outages) == len(tuple(pools)) else None)
    if failure is None and request.app.state.is_draining():
        failure = "draining"
    body: dict[str, Any] = {"status": failure or "ready"}
    if outages and failure is None:
        body["models"] = outages
    if any(one.shared.is_up is False for one in pools):
        body |= {"shared_state": "lost", "degraded": DEGRADED}
    return JSONResponse(body, 503 if failure else 200)


@router.api_route("/ping", methods=["GET", "POST"], include_in_schema=False)
async def ping(request: Request) -> JSONResponse:
    """Tell what `/health` tells, under the name that some platforms ask for."""
    return await health(request)


@router.get("/version")
async def version(request: Request) -> dict[str, str]:
    """Return the version of this server."""
    return {"version": request.app.version}


@router.get(
    "/metrics",
    dependencies=[Depends(administrator)],
    responses={401: RESPONSES[401], 200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    """Return ponder's own metrics, then those of the engines. Clients that accept OpenMetrics get it, with exemplars."""
    pools = pools_of(request)
    is_openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
    of_engines = await asyncio.gather(*(one.engine.metrics(is_openmetrics=is_openmetrics) for one in pools))
    page = pools.metrics.registry.render(is_openmetrics=is_openmetrics) + await asyncio.to_thread(joined, of_engines)
    # The content type is set as a header, since Starlette would add a character set of its own to a media type.
    return Response(page + b"# EOF\n" * is_openmetrics, headers={"content-type": OPENMETRICS if is_openmetrics else TEXT})
