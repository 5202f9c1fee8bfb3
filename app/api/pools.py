"""Which base model of the server a request is for."""

from fastapi import Request

from app.serving.answerer import Answerer
from app.serving.pools import Pools
from app.serving.service import Service


def pools_of(request: Request) -> Pools:
    """Return the base models of the server."""
    pools: Pools = request.app.state.pools
    return pools


def service_of(request: Request, model: str | None) -> Service:
    """Return the service of a model or an adapter, the first one where none is named. Raises `NotFound`.

    All adapters have the tokenizer of their base model.
    """
    return pools_of(request).serving(model)


def answerer_of(request: Request, model: str) -> Answerer:
    """Return who answers for the name of a model, an adapter, or `auto`. Raises `NotFound`."""
    return pools_of(request).answering(model)
