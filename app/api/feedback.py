"""`/v1/feedback`: a caller says whether one of its own answers was right."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from app.api.access import Who
from app.api.body import ClosedBody
from app.api.errors import RESPONSES
from app.api.forwarding import from_owner
from app.api.pools import pools_of
from app.errors import UnknownTrace

router = APIRouter(responses={status: RESPONSES[status] for status in (400, 401, 404)})


class FeedbackBody(ClosedBody):
    """The id of a request's trace, and whether the answer to this request was right."""

    trace_id: Annotated[str, Field(min_length=1, max_length=256)]
    correct: bool


@router.post("/v1/feedback")
async def give_feedback(request: Request, body: FeedbackBody, who: Who) -> Any:
    """Count the feedback. `kept` says whether the question was kept for the next calibration, which the operator decides."""
    observers = pools_of(request).first.observers
    try:
        trace = observers.traces.find(who.key, body.trace_id)
    except UnknownTrace as unknown:
        return await from_owner(request, who, body.trace_id, unknown, content=body.model_dump_json().encode())
    kept = await observers.feedback.record(trace, is_right=body.correct)
    return {"object": "ponder.feedback", "trace_id": body.trace_id, "correct": body.correct, "kept": kept}
