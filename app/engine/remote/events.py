"""What a vLLM server answers to a branch, on its route for tokens or on that for completions.

Each answer is read and its types are checked in one step, since nothing that a replica sends is trusted.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from typing import Required, TypedDict, TypeVar

import aiohttp
import msgspec

from app.engine.replica import NOT_A_NUMBER, Position, ReplicaFailed, ReplicaUnfit, RequestFailed, RequestRefused, TokenPart
from app.engine.speculation import NO_DRAFTS, Drafts

MAX_EVENT_BYTES = 4 * 2**20
"""No event is larger. A replica that sends more without the end of an event has failed."""

DONE = b"[DONE]"

END_S = 2.0
"""Seconds that a stream may still take after its branch has ended."""

REQUEST_FAILED = "Internal server error"
"""The message of vLLM when one request failed and its engine goes on. When the engine is dead, the message is longer."""


class _Ranked(msgspec.Struct):
    token_id: int
    logprob: float


class _Token(msgspec.Struct):
    token_id: int
    logprob: float
    top_logprobs: list[_Ranked] = []


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None  # of the route for tokens
    # The others are of the route for completions, which writes tokens as `token_id:5`.
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] = []


class _PromptToken(TypedDict, total=False):
    logprob: Required[float]
    rank: int | None
    decoded_token: str | None


PromptLogprobs = list[dict[str, _PromptToken] | None]


class _Choice(msgspec.Struct):
    token_ids: list[int] | None = None
    logprobs: _Logprobs | None = None
    prompt_logprobs: PromptLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens_details: _Details | None = None


class _Drafts(msgspec.Struct):
    num_accepted_draft_tokens: int
    num_draft_tokens: int


class _Metrics(msgspec.Struct):
    speculative_decoding: _Drafts | None = None


class _Error(msgspec.Struct):
    message: str
    code: int = 500


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    metrics: _Metrics | None = None
    error: _Error | None = None
    prompt_logprobs: PromptLogprobs | None = None


_DECODER = msgspec.json.Decoder(_Answer)

T = TypeVar("T")


def decoded(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Return JSON from a replica as a value of the decoder's type. Raises `ReplicaFailed` where it has another form."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReplicaFailed(f"an answer that cannot be read: {error}"[:200]) from None


def read_whole(body: bytes) -> TokenPart:
    """Return the one part of an answer that was not streamed."""
    answer = _decode(body)
    if not answer.choices:
        raise ReplicaFailed("an answer without a choice")
    return _part(answer, _part_of_choice(answer.choices[0]))


async def read_stream(chunks: AsyncIterator[bytes]) -> AsyncIterator[TokenPart]:
    """Yield the parts of a streamed answer. The last part waits for what vLLM tells at the end: cached and drafted tokens.

    The stream is read to its end, so that its connection can be used again.

    Raises:
        ReplicaFailed: the stream ended before the branch, or cannot be read.
        RequestFailed: the replica failed at this branch alone.

    """
    events = _events(chunks)
    async for data in events:
        if data == DONE:
            break
        for choice in _decode(data).choices[:1]:
            part = _part_of_choice(choice)
            if part.finish_reason is not None:
                yield await _with_end(part, events)
                return
            if part.token_ids:
                yield part
    raise ReplicaFailed("its stream broke off")


async def _with_end(part: TokenPart, events: AsyncIterator[bytes]) -> TokenPart:
    """Return a last part with what the stream tells after it. The branch is over, so an error there is no failure."""
    with suppress(TimeoutError, ReplicaFailed, RequestFailed, RequestRefused, aiohttp.ClientError):
        async with asyncio.timeout(END_S):
            async for data in events:
                if data != DONE and not (answer := _decode(data)).choices:
                    part = _part(answer, part)
    return part


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of server-sent events of one line each."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        if len(rest) > MAX_EVENT_BYTES:
            raise ReplicaFailed("an event without an end")
        *events, rest = rest.split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                yield event[6:].strip()


def _decode(data: bytes) -> _Answer:
    answer = decoded(data, _DECODER)
    if answer.error is not None:
        if answer.error.message == REQUEST_FAILED:
            raise RequestFailed
        if 400 <= answer.error.code < 500:
            raise RequestRefused(answer.error.message)
        raise ReplicaFailed(answer.error.message[:200])
    return answer


def _part_of_choice(choice: _Choice) -> TokenPart:
    positions = () if choice.logprobs is None else _positions(choice.logprobs)
    token_ids = choice.token_ids
    if token_ids is None:  # of a vLLM before 0.10.2, or at the end
        token_ids = [position[0][0] for position in positions]
    return TokenPart(
        token_ids=tuple(token_ids),
        positions=positions,
        finish_reason=choice.finish_reason,
        stop_reason=choice.stop_reason,
        prompt_logprobs=choice.prompt_logprobs,
    )


def _positions(logprobs: _Logprobs) -> tuple[Position, ...]:
    if logprobs.content is not None:
        return tuple(map(_position, logprobs.content))
    rows = zip_longest(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs)
    return tuple(_position_of_completion(*row) for row in rows)


def _position(token: _Token) -> Position:
    others = ((one.token_id, one.logprob) for one in token.top_logprobs if one.token_id != token.token_id)
    return ((token.token_id, token.logprob), *others)


def _position_of_completion(token: str | None, logprob: float | None, top: dict[str, float] | None) -> Position:
    others = ((_id_of(one), value) for one, value in (top or {}).items() if one != token)
    return ((_id_of(token), NOT_A_NUMBER if logprob is None else logprob), *others)


def _id_of(token: str | None) -> int:
    """Return the id in `token_id:5`."""
    try:
        return int((token or "").removeprefix("token_id:"))
    except ValueError:
        raise ReplicaUnfit("its answers have no ids of tokens") from None


def _part(answer: _Answer, part: TokenPart) -> TokenPart:
    """Return a last part with the counts that its answer tells."""
    details = answer.usage and answer.usage.prompt_tokens_details
    counted = answer.metrics and answer.metrics.speculative_decoding
    return replace(
        part,
        cached_tokens=details.cached_tokens if details else None,
        drafts=Drafts(counted.num_draft_tokens, counted.num_accepted_draft_tokens) if counted else NO_DRAFTS,
        prompt_logprobs=answer.prompt_logprobs or part.prompt_logprobs,
    )
