"""`/v1/traces`: the search traces of the caller's own requests, completed or running."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.api import replies
from app.api.access import Who
from app.api.errors import RESPONSES
from app.api.forwarding import from_owner
from app.api.pools import pools_of
from app.errors import UnknownTrace
from app.search_traces import SearchTrace

router = APIRouter(responses={status: RESPONSES[status] for status in (401, 404)})


@router.get("/v1/traces", responses={400: RESPONSES[400]})
async def list_traces(request: Request, who: Who, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> dict[str, Any]:
    """List the last traces, the newest first, without their nodes. `flops` counts the whole request, and is null until it has ended."""
    traces = pools_of(request).first.observers.traces
    return {
        "object": "list",
        "data": [
            {
                **_head(trace),
                "num_nodes": len(trace.nodes),
                "flops": None if trace.ponder is None else trace.ponder["flops"]["total"],
            }
            for trace in traces.newest(who.key, limit)
        ],
    }


@router.get("/v1/traces/{trace_id}")
async def get_trace(request: Request, trace_id: str, who: Who) -> Any:
    """Return a trace with the texts, scores, values and costs of its nodes. `ponder` is the reply's, null until there is one."""
    try:
        trace = pools_of(request).first.observers.traces.find(who.key, trace_id)
    except UnknownTrace as unknown:
        return await from_owner(request, who, trace_id, unknown)
    return {
        **_head(trace),
        "nodes": replies.nodes((number, node) for (number, _), node in sorted(trace.nodes.items())),
        "ponder": trace.ponder,
    }


def _head(trace: SearchTrace) -> dict[str, Any]:
    """Return the fields that the list and the single trace have in common."""
    return {
        "id": trace.id,
        "object": "ponder.trace",
        "created": int(trace.created),
        "model": trace.model,
        "strategy": trace.strategy,
        "status": trace.status,
    }
