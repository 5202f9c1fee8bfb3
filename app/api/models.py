"""`/v1/models`: the base models and their adapters, each also with every strategy, for clients that offer only a menu of models."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request

from app.api.access import Who
from app.api.errors import RESPONSES
from app.api.pools import pools_of, service_of
from app.routing.planner import AUTO
from app.serving.service import Service

router = APIRouter(responses={status: RESPONSES[status] for status in (401, 404)})


@router.get("/v1/models")
async def list_models(request: Request, _who: Who) -> dict[str, Any]:
    """List the base models and the served adapters, then each of them with `@auto` and with each strategy."""
    names: dict[str, Service] = {}
    for service in pools_of(request):
        served = service.adapters.adapters() if service.adapters else []
        for name in (service.engine.card.name, *(adapter.name for adapter in served if adapter.current)):
            names.setdefault(name, service)
    auto = [] if AUTO in names else [_auto_entry(request)]
    with_strategies = {f"{name}@{one}": service for name, service in names.items() for one in service.names.strategies}
    entries = [[_entry(request, service, one) for one, service in some.items()] for some in (names, with_strategies)]
    return {"object": "list", "data": [*entries[0], *auto, *entries[1]]}


@router.get("/v1/models/{model:path}")
async def get_model(request: Request, model: str, _who: Who) -> dict[str, Any]:
    """Return one of the listed models, or one version of an adapter as `name:sha8`."""
    pools = pools_of(request)
    if pools.answering(model) is pools.auto:
        return {**_auto_entry(request), "id": model}
    return _entry(request, service_of(request, model), model)


def _auto_entry(request: Request) -> dict[str, Any]:
    """Return the entry of the choice among all models. Its context is the longest of theirs."""
    return {
        "id": AUTO,
        "object": "model",
        "created": request.app.state.created,
        "owned_by": "ponder",
        "root": AUTO,
        "parent": None,
        "max_model_len": pools_of(request).auto.reader.engine.card.max_model_len,
    }


def _entry(request: Request, service: Service, name: str) -> dict[str, Any]:
    """Return vLLM's shape of an entry: `parent` is the base model of an adapter, `root` the version that the name stands for."""
    card = service.engine.card
    ref, _ = service.names.resolve(name)
    version = service.adapters.find(ref) if ref and service.adapters else None
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(version.created).timestamp()) if version else request.app.state.created,
        "owned_by": "ponder",
        "root": version.id if version else card.name,
        "parent": None if name == card.name else card.name,
        "max_model_len": card.max_model_len,
    }
