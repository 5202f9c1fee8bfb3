"""The routes of vLLM's server that generate from token ids, and what is sent to each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from adapters.ports import EngineAdapter
from app.engine.replica import RequestRefused, TokenRequest

NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Values without effect. Where a value is not sent, a server takes that of the model's generation config."""

NOT_OF_COMPLETIONS = ("detokenize", "skip_reading_prefix_cache")
"""Sampling parameters that the route for completions sets itself."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route for branches.

    Attributes:
        path: of the route.
        engine_id: a pattern that makes vLLM's own id of a branch from ours. An abort of any other id is answered with 200, and aborts
            nothing (0.32).
        body: returns what is sent for a branch. Raises `RequestRefused` for what the route cannot do.
        losses: what it cannot do, each in a few words.

    """

    path: str
    engine_id: str
    body: Callable[[str, TokenRequest], dict[str, Any]]
    losses: tuple[str, ...] = ()


def name_of(adapter: EngineAdapter) -> str:
    """Return the name of an adapter on vLLM's servers: that of its content, so that all front ends know it by the same one."""
    return adapter.content or adapter.name


def _common(model: str, request: TokenRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model if request.adapter is None else name_of(request.adapter),
        "stream": request.interval > 0,
        "priority": request.priority,
    }
    if request.interval:
        body["stream_options"] = {"include_usage": True}
    if request.cache_salt:
        # A server takes 128 characters, and not all of them. Keys, adapters and callers make longer salts.
        body["cache_salt"] = sha256(request.cache_salt.encode(errors="surrogatepass")).hexdigest()
    return body


def _sampling(request: TokenRequest) -> Mapping[str, Any]:
    return {**request.sampling, "stream_interval": request.interval} if request.interval > 1 else request.sampling


def _tokens_body(model: str, request: TokenRequest) -> dict[str, Any]:
    body = {**_common(model, request), "token_ids": request.token_ids, "sampling_params": _sampling(request), **request.gate}
    if request.features:
        body["features"] = request.features
    return body


def _completion_body(model: str, request: TokenRequest) -> dict[str, Any]:
    if request.features:
        raise RequestRefused("messages: the servers behind this one take no images on the routes that they have")
    if request.gate.get("reasoning_ended") is False:
        raise RequestRefused(
            "response_format: the servers behind this one cannot hold it behind the thinking, on the routes that they have"
        )
    sampling = {name: value for name, value in _sampling(request).items() if name not in NOT_OF_COMPLETIONS}
    sampling["logprobs"] = sampling.get("logprobs", 0)  # an older vLLM tells token ids only with log-probabilities
    return {
        **_common(model, request),
        **NEUTRAL,
        **sampling,
        "prompt": request.token_ids,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


TOKENS = Route("/inference/v1/generate", "generate-tokens-{}", _tokens_body)
"""The route that vLLM made for this (`--enable-scale-out`)."""

COMPLETIONS = Route(
    "/v1/completions",
    "cmpl-{}-0",
    _completion_body,
    losses=("no route for tokens (--enable-scale-out): images, and a form of the answer behind thinking, are refused",),
)
"""The route that every vLLM server has."""
