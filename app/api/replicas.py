"""`/v1/replicas`: the servers that generate tokens for this one, for operators."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request

from app.api.access import administrator
from app.api.errors import RESPONSES
from app.api.pools import pools_of
from app.engine.replica import ReplicaStatus

router = APIRouter(dependencies=[Depends(administrator)], responses={401: RESPONSES[401]})


@router.get("/v1/replicas")
async def list_replicas(request: Request) -> dict[str, Any]:
    """List the replicas, each with its state, the reason where it is not ready, and what it runs. Empty for an engine in this process."""
    found = [(service.engine.card.name, one) for service in pools_of(request) for one in service.engine.replicas]
    return {"object": "list", "data": [_entry(pool, one) for pool, one in found]}


def _entry(pool: str, replica: ReplicaStatus) -> dict[str, Any]:
    card = replica.card
    return {
        "id": replica.name,
        "object": "replica",
        "pool": pool,
        "state": replica.state,
        "reason": replica.reason or None,
        "model": card and card.model,
        "engine": card and f"vLLM {card.version}",
        "max_model_len": card and card.max_model_len,
        "adapter_slots": card and card.adapter_slots,
        "frees_adapter_slots": card and card.frees_slots,
        "adapters": list(replica.adapters),
        "lacks": list(card.losses) if card else [],
        "branches": replica.branches,
        "counted": asdict(replica.counted),
        "failures": replica.failures,
    }
