"""`/v1/traces`: the caller's own requests, finished or running, and the whole tree of each."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.api import replies
from app.api.access import caller
from app.api.errors import RESPONSES
from app.request import Caller
from app.search_traces import SearchTrace
from app.serving.service import Service

router = APIRouter(responses={status: RESPONSES[status] for status in (401, 404)})


@router.get("/v1/traces", responses={400: RESPONSES[400]})
async def list_traces(
    request: Request, who: Annotated[Caller, Depends(caller)], limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> dict[str, Any]:
    """The last ones, the newest first, without their nodes; `flops` are those of the whole request, once it is finished."""
    service: Service = request.app.state.service
    return {
        "object": "list",
        "data": [
            {
                **_head(trace),
                "num_nodes": len(trace.nodes),
                "flops": None if trace.account is None else trace.account["flops"]["total"],
            }
            for trace in service.observers.traces.of(who.key, limit)
        ],
    }


@router.get("/v1/traces/{trace_id}")
async def get_trace(request: Request, trace_id: str, who: Annotated[Caller, Depends(caller)]) -> dict[str, Any]:
    """Its nodes with their texts, values, verdicts and costs; `ponder` is the reply's account, once there is one."""
    service: Service = request.app.state.service
    trace = service.observers.traces.find(who.key, trace_id)
    return {
        **_head(trace),
        "nodes": [replies.node(number, node) for (number, _), node in sorted(trace.nodes.items())],
        "ponder": trace.account,
    }


def _head(trace: SearchTrace) -> dict[str, Any]:
    """What the list and the whole have in common."""
    return {
        "id": trace.id,
        "object": "ponder.trace",
        "created": int(trace.created),
        "model": trace.model,
        "strategy": trace.strategy,
        "status": trace.status,
    }
