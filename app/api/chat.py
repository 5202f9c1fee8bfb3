"""`/v1/chat/completions` and `/v1/completions`, whole or as a stream, with every way of choosing a strategy."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response

from app.api import replies
from app.api.access import caller
from app.api.errors import RESPONSES, body_of
from app.api.replies import ChatShape, ChoiceState, CompletionShape, Shape
from app.api.schemas import ChatRequest, CompletionRequest, PonderOptions, Sampling
from app.api.sse import DONE, KEEP_ALIVE, EventStream, event, while_connected
from app.errors import InvalidRequest, NotFound, first_error
from app.metering.meter import Budget
from app.request import Caller, InferenceRequest, Outcome, effort_of
from app.routing.planner import AUTO
from app.serving.service import Service
from app.serving.session import Session
from strategies.core.results import Progress, TraceNode
from strategies.core.values import Delta
from strategies.registry import STRATEGIES

router = APIRouter(responses=RESPONSES)

TRACE_HEADERS = ("traceparent", "tracestate")
"""W3C's headers, by which a caller's trace goes on here."""

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
    """The same, with the strategy in the path, for clients that offer only a base URL."""
    if strategy not in (AUTO, *STRATEGIES.names()):
        message = f"There is no strategy `{strategy}`; there are {', '.join((AUTO, *STRATEGIES.names()))}."
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


def _inference_request(
    http_request: Request, body: Sampling, header: str | None, path: str | None, **fields: Any
) -> InferenceRequest:
    """The strategy is the first named of body, header, model name and path."""
    service: Service = http_request.app.state.service
    adapter, in_model = service.names.resolve(body.model)
    options = body.ponder or PonderOptions()
    if header is not None and header not in (AUTO, *STRATEGIES.names()):
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
            stream = _Stream(session, shape, has_usage=body.include_usage, silence=http_request.app.state.keep_alive)
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
        account = replies.ponder_object(session, outcome)
        session.account.trace.finish(account)
        content = {
            **replies.envelope(shape, session, is_chunk=False),
            "choices": choices,
            "usage": replies.usage(session, outcome),
            "ponder": account,
        }
        return Response(orjson.dumps(content), media_type="application/json", headers=replies.headers(session, outcome))


_SILENCE = (-1, Progress(""))
"""In a stream's queue: time to see whether anything was sent lately."""

_NEWS = (-2, Progress(""))
"""In a stream's queue: time to tell what was held back."""

PROGRESS_S = 0.25
"""The least time between two reports on the search: a thousand nodes a second are no news for anybody."""


class _News:
    """What happened in the search since it was last told: the latest line, the latest state of each node."""

    def __init__(self) -> None:
        self._text = ""
        self._nodes: dict[tuple[int, int], TraceNode] = {}
        self._is_due = False

    def add(self, number: int, progress: Progress) -> bool:
        """Remember it; whether somebody must be told of it later, which is so for the first since the last time."""
        self._text = progress.text or self._text
        self._nodes |= {(number, node.id): node for node in progress.nodes}
        was_due, self._is_due = self._is_due, True
        return not was_due

    def take(self) -> tuple[str, dict[tuple[int, int], TraceNode]]:
        """All of it, and begin anew."""
        told = self._text, self._nodes
        self._text, self._nodes, self._is_due = "", {}, False
        return told


class _Stream:
    """One streamed response: opening, progress and tokens as they come, the winner, usage."""

    def __init__(self, session: Session, shape: Shape, *, has_usage: bool, silence: float) -> None:
        self._session = session
        self._shape = shape
        self._has_usage = has_usage
        self._silence = silence
        self._envelope = replies.envelope(shape, session, is_chunk=True)
        self._happened: asyncio.Queue[tuple[int, Delta | Progress] | None] = asyncio.Queue()
        self._choices: dict[int, ChoiceState] = {}
        self._news = _News()
        self._told_at = -PROGRESS_S
        self._last_sent = asyncio.get_running_loop().time()

    async def events(self) -> AsyncIterator[bytes]:
        """The whole stream. An error is its last event, since the status is sent, and is raised when that has been told."""
        for index in range(self._session.request.num_choices * len(self._session.rendered.tasks)):
            if (opening := self._shape.opening(index)) is not None:
                yield self._chunk(opening)
        if self._session.request.shows_nodes:
            yield event({**self._envelope, "choices": [], "ponder": replies.ponder_opening(self._session)})
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self._run())
                async for chunk in self._until_done():
                    yield chunk
            for chunk in self._closing(running.result()):
                yield chunk
        except Exception as error:  # noqa: BLE001 - raised again when it has been told
            yield event(body_of(error)[1])
            yield DONE
            raise first_error(error) from None
        yield DONE

    async def _run(self) -> Outcome:
        try:
            return await self._session.run(lambda number, happened: self._happened.put_nowait((number, happened)))
        finally:
            self._happened.put_nowait(None)

    async def _until_done(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        ticking = loop.call_later(self._silence, self._tick)
        try:
            while (happened := await self._happened.get()) is not None:
                if happened is _SILENCE:
                    ticking = loop.call_later(self._silence, self._tick)
                    if loop.time() - self._last_sent < self._silence:
                        continue
                self._last_sent = loop.time()
                for chunk in self._chunks_for(*happened):
                    yield chunk
            for chunk in self._told():
                yield chunk
        finally:
            ticking.cancel()

    def _tick(self) -> None:
        """One timer for the whole stream: a time-out around each token would cost as much as the token."""
        self._happened.put_nowait(_SILENCE)

    def _chunks_for(self, number: int, happened: Delta | Progress) -> Iterator[bytes]:
        if (number, happened) == _SILENCE:
            yield KEEP_ALIVE
        elif (number, happened) == _NEWS:
            yield from self._told()
        elif isinstance(happened, Delta):
            if (choice := self._delta(number, happened.index, happened)) is not None:
                yield self._chunk(choice)
        elif self._news.add(number, happened):
            wait = self._told_at + PROGRESS_S - self._last_sent
            if wait <= 0:
                yield from self._told()
            else:
                asyncio.get_running_loop().call_later(wait, self._happened.put_nowait, _NEWS)

    def _told(self) -> Iterator[bytes]:
        """The last line of progress, and the nodes that have changed for whoever asked for them."""
        text, nodes = self._news.take()
        self._told_at = self._last_sent
        if text and (choice := self._shape.progress(text)) is not None:
            yield self._chunk(choice)
        if nodes and self._session.request.shows_nodes:
            changed = [replies.node(number, node) for (number, _), node in nodes.items()]
            yield event({**self._envelope, "choices": [], "ponder": {"nodes": changed}})

    def _delta(self, number: int, rank: int, delta: Delta) -> dict[str, Any] | None:
        index = number * self._session.request.num_choices + rank
        if index not in self._choices:
            prompt = self._session.rendered.prompts[number]
            self._choices[index] = ChoiceState(self._session.engine.parser(prompt), prompt)
        return self._shape.delta(self._session, index, delta, self._choices[index])

    def _closing(self, outcome: Outcome) -> Iterator[bytes]:
        """Answers that were not streamed while they were made, then what it all cost."""
        streamed = set(self._choices)
        for number, result in enumerate(outcome.results):
            for rank, scored in enumerate(result.chosen):
                if number * self._session.request.num_choices + rank not in streamed:
                    whole = scored.candidate
                    delta = Delta(rank, whole.text, whole.token_ids, whole.logprobs, whole.finish_reason, whole.stop_reason)
                    if (choice := self._delta(number, rank, delta)) is not None:
                        yield self._chunk(choice)
        account = replies.ponder_object(self._session, outcome)
        self._session.account.trace.finish(account)
        totals: dict[str, Any] = {"ponder": account}
        if self._has_usage:
            totals["usage"] = replies.usage(self._session, outcome)
        yield event({**self._envelope, "choices": [], **totals})

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return event({**self._envelope, "choices": [choice]})
