"""`/v1/chat/completions` and `/v1/completions`, whole or as a stream, with every way of choosing a strategy."""

from contextlib import AsyncExitStack
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response

from app.api import replies
from app.api.access import caller
from app.api.errors import RESPONSES
from app.api.schemas import ChatRequest, CompletionRequest, PonderOptions, Sampling
from app.api.shapes import ChatShape, CompletionShape, Shape
from app.api.sse import EventStream, while_connected
from app.api.streaming import ReplyStream
from app.errors import InvalidRequest, NotFound
from app.metering.meter import Budget
from app.request import Caller, InferenceRequest, effort_of
from app.serving.service import Service

router = APIRouter(responses=RESPONSES)

TRACE_HEADERS = ("traceparent", "tracestate")
"""The headers of W3C Trace Context, with which a caller's OpenTelemetry trace continues in this server."""

StrategyHeader = Annotated[str | None, Header(alias="X-Ponder-Strategy", description="A strategy, or `auto`.")]
Who = Annotated[Caller, Depends(caller)]

_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, or a stream of chunks.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


@router.post("/v1/chat/completions", responses=_CONTENT)
async def chat_completions(http_request: Request, body: ChatRequest, who: Who, header: StrategyHeader = None) -> Response:
    """Answer a conversation."""
    return await _respond(http_request, _chat_request(http_request, body, header, None), body, who, ChatShape())


@router.post("/v1/{strategy}/chat/completions", responses=_CONTENT)
async def chat_completions_by(
    http_request: Request, strategy: str, body: ChatRequest, who: Who, header: StrategyHeader = None
) -> Response:
    """Answer a conversation with the strategy in the path, for clients that can set only a base URL."""
    if strategy not in (names := _strategies(http_request)):
        message = f"There is no strategy `{strategy}`; there are {', '.join(names)}."
        raise NotFound(message, parameter="strategy")
    return await _respond(http_request, _chat_request(http_request, body, header, strategy), body, who, ChatShape())


@router.post("/v1/completions", responses=_CONTENT)
async def completions(http_request: Request, body: CompletionRequest, who: Who, header: StrategyHeader = None) -> Response:
    """Continue one or several texts."""
    fields = body.for_engine()
    prompts = body.prompts
    request = _inference_request(
        http_request,
        body,
        header,
        None,
        bodies=tuple({**fields, "prompt": prompt} for prompt in prompts),
        is_chat=False,
        question=prompts[0] if isinstance(prompts[0], str) else "",
        num_chars=sum(len(prompt) for prompt in prompts),
        num_logprobs=body.num_logprobs,
    )
    return await _respond(http_request, request, body, who, CompletionShape(echo=body.echo))


def _chat_request(http_request: Request, body: ChatRequest, header: str | None, path: str | None) -> InferenceRequest:
    return _inference_request(
        http_request,
        body,
        header,
        path,
        bodies=(body.for_engine(),),
        is_chat=True,
        question=body.question,
        num_chars=body.num_chars,
        num_logprobs=body.num_logprobs,
        has_tools=bool(body.tools) and body.tool_choice != "none",
    )


def _strategies(http_request: Request) -> tuple[str, ...]:
    """Return the names by which a strategy may be chosen."""
    service: Service = http_request.app.state.service
    return service.names.strategies


def _inference_request(
    http_request: Request, body: Sampling, header: str | None, path: str | None, **fields: Any
) -> InferenceRequest:
    """Build the request. Its strategy is the first one named by: the body, the header, the model's name, the path."""
    service: Service = http_request.app.state.service
    adapter, in_model = service.names.resolve(body.model)
    options = body.ponder or PonderOptions()
    names = _strategies(http_request)
    if options.strategy is not None and options.strategy not in names:
        message = f"There is no strategy `{options.strategy}`; there are {', '.join(names)}."
        raise InvalidRequest(message, parameter="ponder.strategy")
    if header is not None and header not in names:
        raise InvalidRequest(f"There is no strategy `{header}`.", parameter="X-Ponder-Strategy")
    budget = options.budget
    response_format = body.response_format
    return InferenceRequest(
        id=http_request.state.request_id,
        adapter=adapter,
        strategy=options.strategy or header or in_model or path,
        parameters=options.parameters,
        budget=Budget(budget.tokens, budget.flops, budget.seconds) if budget else Budget(),
        kind=options.answer,
        effort=effort_of(options.effort, getattr(body, "reasoning_effort", None)),
        num_choices=body.n,
        seed=body.seed,
        temperature=body.temperature,
        response_format=response_format.model_dump(by_alias=True) if response_format else None,
        is_watched=body.stream,
        shows_nodes=options.show_nodes,
        trace_context={name: value for name in TRACE_HEADERS if (value := http_request.headers.get(name))},
        **fields,
    )


async def _respond(http_request: Request, request: InferenceRequest, body: Sampling, who: Caller, shape: Shape) -> Response:
    service: Service = http_request.app.state.service
    if body.ponder is not None and body.ponder.dry_run:
        return Response(orjson.dumps(replies.preview(await service.preview(request))), media_type="application/json")
    if body.stream:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(service.open(request, who))
            stream = ReplyStream(session, shape, has_usage=body.include_usage, keep_alive=http_request.app.state.keep_alive)
            # The response closes the session: it is sent after this function has returned.
            return EventStream(stream.events(), replies.headers(session), stack.pop_all())
    return await while_connected(http_request.receive, _whole(service, request, who, shape))


async def _whole(service: Service, request: InferenceRequest, who: Caller, shape: Shape) -> Response:
    async with service.open(request, who) as session:
        outcome = await session.run(lambda _number, _event: None)
        choices = [
            shape.choice(session, number, number * request.num_choices + rank, scored.candidate)
            for number, result in enumerate(outcome.results)
            for rank, scored in enumerate(result.chosen)
        ]
        ponder = replies.ponder_object(session, outcome)
        session.account.trace.finish(ponder)
        content = {
            **replies.envelope(shape, session, is_chunk=False),
            "choices": choices,
            "usage": replies.usage(session, outcome),
            "ponder": ponder,
        }
        return Response(orjson.dumps(content), media_type="application/json", headers=replies.headers(session, outcome))
