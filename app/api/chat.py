"""`/v1/chat/completions` and `/v1/completions`, whole or as a stream, with every way of choosing a strategy."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from app.api import replies
from app.api.access import Who
from app.api.chat_shape import ChatShape
from app.api.completion_shape import CompletionShape
from app.api.disconnects import while_connected
from app.api.dry_run import preview
from app.api.errors import RESPONSES
from app.api.openapi import json_or_stream
from app.api.pools import answerer_of
from app.api.reply_events import ReplyEvents
from app.api.requests import Origin, chat_request, completion_request
from app.api.sampling import Sampling, StreamOptions
from app.api.schemas import ChatRequest, CompletionRequest
from app.api.shapes import Details, Shape
from app.api.streaming import ReplyStream
from app.errors import NotFound
from app.request import Caller, InferenceRequest
from app.serving.answerer import Answerer
from app.settings import Settings

router = APIRouter(responses=RESPONSES)

TRACE_HEADERS = ("traceparent", "tracestate")
"""The headers of W3C Trace Context, with which a caller's OpenTelemetry trace continues in this server."""

StrategyHeader = Annotated[str | None, Header(alias="X-Ponder-Strategy", description="A strategy, or `auto`.")]

_CONTENT = json_or_stream("The answer, or a stream of chunks.")


@router.post("/v1/chat/completions", responses=_CONTENT)
async def chat_completions(http_request: Request, body: ChatRequest, who: Who, header: StrategyHeader = None) -> Response:
    """Answer a conversation."""
    request = chat_request(body, origin_of(http_request, body.model, header))
    return await _respond(http_request, request, body, who, _chat_shape(body))


@router.post("/v1/{strategy}/chat/completions", responses=_CONTENT)
async def chat_completions_by(
    http_request: Request, strategy: str, body: ChatRequest, who: Who, header: StrategyHeader = None
) -> Response:
    """Answer a conversation with the strategy in the path, for clients that can set only a base URL."""
    origin = origin_of(http_request, body.model, header, strategy)
    if strategy not in origin.names.strategies:
        message = f"There is no strategy `{strategy}`; there are {', '.join(origin.names.strategies)}."
        raise NotFound(message, parameter="strategy")
    return await _respond(http_request, chat_request(body, origin), body, who, _chat_shape(body))


@router.post("/v1/completions", responses=_CONTENT)
async def completions(http_request: Request, body: CompletionRequest, who: Who, header: StrategyHeader = None) -> Response:
    """Continue one or several texts."""
    request = completion_request(body, origin_of(http_request, body.model, header))
    return await _respond(http_request, request, body, who, CompletionShape(_details(body), echo=body.echo))


def _details(body: Sampling) -> Details:
    return Details(
        has_token_ids=body.return_token_ids,
        tokens_as_ids=body.return_tokens_as_token_ids,
        num_prompt_logprobs=None if body.stream else body.prompt_logprobs,
    )


def _chat_shape(body: ChatRequest) -> ChatShape:
    details = replace(_details(body), has_prompt_text=body.return_prompt_text)
    return ChatShape(details, body.echoed, has_functions=body.has_functions, has_reasoning=body.include_reasoning)


def origin_of(http_request: Request, model: str, header: str | None, path: str | None = None) -> Origin:
    """Return what a request to this model brings besides its body. Raises `NotFound`."""
    trace_context = {name: value for name in TRACE_HEADERS if (value := http_request.headers.get(name))}
    settings: Settings = http_request.app.state.settings
    return Origin(
        http_request.state.request_id,
        answerer_of(http_request, model).names,
        header,
        path,
        trace_context,
        is_strict=settings.strict_fields,
        holds_tools=settings.tool_strict_level == "parameter",
    )


async def _respond(http_request: Request, request: InferenceRequest, body: Sampling, who: Caller, shape: Shape) -> Response:
    service = answerer_of(http_request, body.model)
    if body.ponder is not None and body.ponder.dry_run:
        return replies.json_response(preview(await service.preview(request)))
    if body.stream:
        keep_alive: float = http_request.app.state.keep_alive
        options = body.stream_options or StreamOptions()
        return await replies.stream_response(
            service.open(request, who),
            lambda session: ReplyStream(session, shape, options, body.progress).events(ReplyEvents(session, keep_alive)),
        )
    return await while_connected(http_request.receive, _whole(service, request, who, shape))


async def _whole(service: Answerer, request: InferenceRequest, who: Caller, shape: Shape) -> Response:
    async with service.open(request, who) as session:
        outcome = await session.run(lambda _number, _event: None)
        choices = [shape.choice(session, prompt, index, scored.candidate) for prompt, index, scored in outcome.choices()]
        ponder = replies.finish_trace(session, outcome)
        content = {
            **replies.envelope(shape, session, is_chunk=False),
            "choices": choices,
            **shape.prompt_fields(session),
            "usage": replies.usage(session, outcome),
            "ponder": ponder,
        }
        return replies.json_response(content, replies.headers(session, outcome))
