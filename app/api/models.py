"""`/v1/models`: the served model, and one entry per strategy for clients that offer only a model menu."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from app.api.access import caller
from app.api.errors import RESPONSES
from app.asks import Caller
from app.service import AUTO, Service
from strategies.registry import STRATEGIES

router = APIRouter(responses={status: RESPONSES[status] for status in (401, 404)})


@router.get("/v1/models")
async def list_models(request: Request, _who: Annotated[Caller, Depends(caller)]) -> dict[str, Any]:
    """The base model, then `model@strategy` for `auto` and each strategy."""
    name = request.app.state.service.engine.card.name
    names = [name, *(f"{name}@{strategy}" for strategy in (AUTO, *STRATEGIES.names()))]
    return {"object": "list", "data": [_entry(request, one) for one in names]}


@router.get("/v1/models/{model:path}")
async def get_model(request: Request, model: str, _who: Annotated[Caller, Depends(caller)]) -> dict[str, Any]:
    """One of them."""
    service: Service = request.app.state.service
    service.resolve(model)
    return _entry(request, model)


def _entry(request: Request, name: str) -> dict[str, Any]:
    card = request.app.state.service.engine.card
    return {
        "id": name,
        "object": "model",
        "created": request.app.state.created,
        "owned_by": "ponder",
        "root": card.name,
        "parent": None if name == card.name else card.name,
        "max_model_len": card.max_model_len,
    }
