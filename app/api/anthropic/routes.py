"""`/v1/messages` and `/v1/messages/count_tokens`."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.api import replies
from app.api.access import Who
from app.api.anthropic import shapes
from app.api.anthropic.conversion import messages_request, own_names
from app.api.anthropic.schemas import CountTokensRequest, MessagesRequest
from app.api.anthropic.stream import MessageStream
from app.api.chat import StrategyHeader, origin_of
from app.api.disconnects import while_connected
from app.api.dry_run import preview
from app.api.errors import RESPONSES as DESCRIPTIONS
from app.api.openapi import json_or_stream
from app.api.pools import answerer_of
from app.api.reply_events import ReplyEnd, ReplyEvents, ReplyProgress
from app.request import Caller, InferenceRequest, Outcome
from app.serving.answerer import Answerer
from app.serving.session import Session


class ErrorDetail(BaseModel):
    """The type and the message of an error, and what clients read to go on by themselves."""

    type: str
    message: str
    details: dict[str, Any] | None = None


class ErrorBody(BaseModel):
    """Anthropic's error shape."""

    type: Literal["error"]
    error: ErrorDetail
    request_id: str


class TokenCount(BaseModel):
    """The number of tokens of a prompt."""

    input_tokens: int


router = APIRouter(
    responses={status: {"model": ErrorBody, "description": known["description"]} for status, known in DESCRIPTIONS.items()}
)

_CONTENT = json_or_stream("The message, or a stream of events.")


@router.post("/v1/messages", responses=_CONTENT)
async def create_message(http_request: Request, body: MessagesRequest, who: Who, header: StrategyHeader = None) -> Response:
    """Answer a conversation, in the shape of Anthropic's Messages API."""
    service = answerer_of(http_request, body.model)
    request = messages_request(body, origin_of(http_request, body.model, header))
    keep_alive: float = http_request.app.state.keep_alive
    with own_names(body):
        if body.ponder is not None and body.ponder.dry_run:
            return replies.json_response(preview(await service.preview(request)))
        if body.stream:
            return await replies.stream_response(
                service.open(request, who),
                lambda session: MessageStream(session, body).events(ReplyEvents(session, keep_alive)),
            )
        return await while_connected(http_request.receive, _whole(service, request, who, body, keep_alive))


@router.post("/v1/messages/count_tokens")
async def count_tokens(http_request: Request, body: CountTokensRequest, _who: Who) -> TokenCount:
    """Count the tokens of the prompt that a conversation makes, with its tools and its system prompt."""
    service = answerer_of(http_request, body.model)
    with own_names(body):
        preview = await service.preview(messages_request(body, origin_of(http_request, body.model, None)))
    return TokenCount(input_tokens=preview.prompt_tokens)


async def _whole(
    service: Answerer, request: InferenceRequest, who: Caller, body: MessagesRequest, keep_alive: float
) -> Response:
    async with service.open(request, who) as session:
        progress, outcome = await _run(ReplyEvents(session, keep_alive))
        _, _, chosen = next(outcome.choices())
        one = chosen.candidate
        shown = progress if body.progress == "reasoning" else ""
        blocks = shapes.content(session, one, shown, shows_thinking=body.shows_thinking)
        has_calls = blocks[-1]["type"] == "tool_use"
        content = _message(
            session, outcome, content=blocks, **shapes.stop(one.finish_reason, one.stop_reason, has_calls=has_calls)
        )
        return replies.json_response(content, replies.headers(session, outcome))


async def _run(reply: ReplyEvents) -> tuple[str, Outcome]:
    """Return what the search told on its way, one line a report, and its outcome."""
    events = [one async for one in reply()]
    [end] = (one for one in events if isinstance(one, ReplyEnd))
    return "".join(f"{one.text}\n" for one in events if isinstance(one, ReplyProgress) and one.text), end.outcome


def _message(session: Session, outcome: Outcome, **fields: Any) -> dict[str, Any]:
    ponder = replies.finish_trace(session, outcome)
    return shapes.message(session, usage=shapes.usage(session, outcome), ponder=ponder, **fields)
