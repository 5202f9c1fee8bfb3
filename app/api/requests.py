"""Turns a validated body into an `InferenceRequest`. The Python API uses it too, so that a field means the same in both."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.api.ponder_options import PonderOptions
from app.api.sampling import Sampling
from app.api.schemas import ChatRequest, CompletionRequest
from app.errors import InvalidRequest
from app.request import InferenceRequest, effort_of
from app.serving.model_names import ModelNames

MAX_IGNORED_FIELDS = 16
"""The most ignored fields that a reply names."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a request brings besides its body.

    Attributes:
        id: the id of the request, and of its trace.
        names: the models and strategies of the server.
        header: the strategy that the header `X-Ponder-Strategy` names, or None.
        path: the strategy that the URL's path names, or None.
        trace_context: the caller's `traceparent` and `tracestate`.
        is_strict: whether a field that nobody knows is refused, instead of ignored.
        holds_tools: whether a grammar holds the arguments of all tool calls.

    """

    id: str
    names: ModelNames
    header: str | None = None
    path: str | None = None
    trace_context: Mapping[str, str] = field(default_factory=dict)
    is_strict: bool = False
    holds_tools: bool = False


def chat_request(body: ChatRequest, origin: Origin) -> InferenceRequest:
    """Return the request of a conversation, or raise `InvalidRequest` or `NotFound`."""
    if origin.holds_tools:
        body.check_tools(all_are_strict=True)
    return _request(
        body,
        origin,
        bodies=(body.for_engine(),),
        is_chat=True,
        question=body.question,
        num_chars=body.num_chars,
        num_logprobs=body.num_logprobs,
        num_prompt_logprobs=body.prompt_logprobs,
        shows_prompt=body.return_prompt_text,
        has_tools=body.has_tools,
        modalities=body.modalities,
        prefill=body.prefill,
        may_be_kept=body.store,
    )


def completion_request(body: CompletionRequest, origin: Origin) -> InferenceRequest:
    """Return the request of one or several texts to be continued, or raise `InvalidRequest` or `NotFound`."""
    fields = body.for_engine()
    prompts = body.prompts
    request = _request(
        body,
        origin,
        bodies=tuple({**fields, "prompt": prompt} for prompt in prompts),
        is_chat=False,
        question=prompts[0] if isinstance(prompts[0], str) else "",
        num_chars=sum(len(prompt) for prompt in prompts),
        num_logprobs=body.num_logprobs,
        num_prompt_logprobs=body.num_prompt_logprobs,
        shows_prompt=body.echo,
        generates=body.max_tokens != 0,
    )
    if body.best_of is not None and body.best_of > 1 and request.strategy is None:
        return replace(request, strategy="best_of_n", parameters={"n": body.best_of, "verifier": "likelihood"})
    return request


def named_in_reply(names: Iterable[str], origin: Origin) -> tuple[str, ...]:
    """Return the fields that nobody knows, as many as a reply names, or raise `InvalidRequest` where the server is strict."""
    ignored = tuple(itertools.islice(names, MAX_IGNORED_FIELDS))
    if ignored and origin.is_strict:
        raise InvalidRequest(f"{ignored[0]}: this server does not know this field.", parameter=ignored[0])
    return ignored


def _request(body: Sampling, origin: Origin, **fields: Any) -> InferenceRequest:
    """Build the request. Its strategy is the first one named by: the body, the header, the model's name, the path."""
    ignored = named_in_reply(body.ignored_fields(), origin)
    adapter, in_model = origin.names.resolve(body.model)
    options = body.ponder or PonderOptions()
    names = origin.names.strategies
    if options.strategy is not None and options.strategy not in names:
        message = f"There is no strategy `{options.strategy}`; there are {', '.join(names)}."
        raise InvalidRequest(message, parameter="ponder.strategy")
    if origin.header is not None and origin.header not in names:
        raise InvalidRequest(f"There is no strategy `{origin.header}`.", parameter="X-Ponder-Strategy")
    response_format, structured = body.response_format, body.structured_outputs
    return InferenceRequest(
        id=body.request_id or origin.id,
        adapter=adapter,
        strategy=options.strategy or origin.header or in_model or origin.path,
        parameters=options.parameters,
        budget=body.budget,
        kind=options.answer or (structured.kind if structured and not fields.get("has_tools") else None),
        effort=effort_of(options.effort, getattr(body, "reasoning_effort", None)),
        risk=options.risk,
        num_choices=body.n,
        seed=body.seed,
        temperature=body.temperature,
        response_format=response_format.model_dump(by_alias=True) if response_format else None,
        is_watched=body.stream,
        shows_nodes=options.show_nodes,
        trace_context=origin.trace_context,
        cache_salt=body.cache_salt,
        ignored_fields=ignored,
        **fields,
    )
