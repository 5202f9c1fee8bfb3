"""For those who run the server: liveness, readiness, metrics."""

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from app.api.access import administrator
from app.api.errors import RESPONSES
from app.telemetry.registry import OPENMETRICS, TEXT

router = APIRouter()


@router.get("/health", responses={503: {"description": "The engine is dead."}})
async def health(request: Request) -> JSONResponse:
    """Whether the process should go on living."""
    failure = request.app.state.service.engine.failure
    return JSONResponse({"status": failure or "ok"}, 503 if failure else 200)


@router.get("/ready", responses={503: {"description": "Not now: starting, draining, or dead."}})
async def ready(request: Request) -> JSONResponse:
    """Whether new requests should be sent here."""
    failure = request.app.state.service.engine.failure
    if failure is None and request.app.state.is_draining():
        failure = "draining"
    return JSONResponse({"status": failure or "ready"}, 503 if failure else 200)


@router.get(
    "/metrics",
    dependencies=[Depends(administrator)],
    responses={401: RESPONSES[401], 200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    """Ponder's own metrics, then the engine's; in OpenMetrics, with exemplars, for whom that is the wish."""
    service = request.app.state.service
    is_open = "application/openmetrics-text" in request.headers.get("accept", "")
    page = service.observers.metrics.page.render(is_open=is_open) + service.engine.metrics(is_open=is_open)
    # As a header: Starlette would add its own word on the character set.
    return Response(page + b"# EOF\n" * is_open, headers={"content-type": OPENMETRICS if is_open else TEXT})
