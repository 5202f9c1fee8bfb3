"""`/v1/feedback`: the caller's word on one of its own answers."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from app.api.access import caller
from app.api.errors import RESPONSES
from app.api.messages import Body
from app.request import Caller
from app.serving.service import Service

router = APIRouter(responses={status: RESPONSES[status] for status in (400, 401, 404)})


class FeedbackBody(Body):
    """Whether an answer was right."""

    trace_id: Annotated[str, Field(min_length=1, max_length=256)]
    correct: bool


@router.post("/v1/feedback")
async def give(request: Request, body: FeedbackBody, who: Annotated[Caller, Depends(caller)]) -> dict[str, Any]:
    """Count it, and keep the question for the next calibration where the operator wants that (`kept`)."""
    service: Service = request.app.state.service
    trace = service.observers.traces.find(who.key, body.trace_id)
    kept = await service.observers.feedback.take(trace, is_right=body.correct)
    return {"object": "ponder.feedback", "trace_id": body.trace_id, "correct": body.correct, "kept": kept}
