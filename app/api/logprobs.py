"""Log-probabilities in a reply: OpenAI's two shapes, and vLLM's shape of those of the prompt. All of them are finite numbers."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from app.engine.base import PromptLogprobs, RankedToken
from strategies.core.values import TokenLogprob


class CompletionToken(NamedTuple):
    """A token of a text completion. The first token of a prompt follows nothing, so it has neither a log-probability nor alternatives."""

    token: str
    logprob: float | None
    top: dict[str, float] | None


def chat_logprobs(entries: Sequence[TokenLogprob], num_top: int | None, *, as_ids: bool) -> dict[str, Any] | None:
    """Return the `logprobs` of a chat choice; None without any.

    Args:
        entries: of the tokens of the choice.
        num_top: the alternatives that the caller asked for; None for no log-probabilities.
        as_ids: whether a token is told as `token_id:…`. Its bytes are those of its text anyway.

    """
    if num_top is None or not entries:
        return None
    content = []
    for entry in entries:
        top = [
            _chat_token(token, token_id, logprob, as_ids=as_ids)
            for (token, logprob), token_id in zip(entry.top[:num_top], entry.top_ids, strict=False)
        ]
        content.append({**_chat_token(entry.token, entry.token_id, entry.logprob, as_ids=as_ids), "top_logprobs": top})
    return {"content": content, "refusal": None}


def generated_tokens(entries: Sequence[TokenLogprob], num_top: int, *, as_ids: bool) -> list[CompletionToken]:
    """Return generated tokens, each with itself and its `num_top` most probable alternatives, as vLLM's server does."""
    return [
        _completion_token(
            [
                (_name(entry.token, entry.token_id, as_ids=as_ids), entry.logprob),
                *(
                    (_name(token, token_id, as_ids=as_ids), logprob)
                    for (token, logprob), token_id in zip(entry.top[:num_top], entry.top_ids, strict=False)
                ),
            ]
        )
        for entry in entries
    ]


def prompt_tokens(first: tuple[str, int], logprobs: PromptLogprobs, num_top: int, *, as_ids: bool) -> list[CompletionToken]:
    """Return the tokens of a prompt in the same form. `first` is the text and the id of its first token."""
    return [
        CompletionToken(_name(*first, as_ids=as_ids), None, None),
        *(
            _completion_token(
                [(_name(one.token, one.token_id, as_ids=as_ids), one.logprob) for one in _shown(position, num_top)]
            )
            for position in logprobs[1:]
        ),
    ]


def completion_logprobs(tokens: Sequence[CompletionToken], offset: int) -> dict[str, Any] | None:
    """Return the `logprobs` of a text choice; None without any. `offset` is the position of the first token, in characters."""
    if not tokens:
        return None
    offsets = []
    for one in tokens:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "tokens": [one.token for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [one.top for one in tokens],
        "text_offset": offsets,
    }


def prompt_logprobs(logprobs: PromptLogprobs | None, num_top: int) -> list[dict[str, Any] | None] | None:
    """Return vLLM's `prompt_logprobs`, one object for each token, None for the first. None where the budget had no room for them."""
    if not logprobs:
        return None
    return [
        {
            str(one.token_id): {"logprob": _finite(one.logprob), "rank": one.rank, "decoded_token": one.token}
            for one in _shown(position, num_top)
        }
        or None
        for position in logprobs
    ]


def _shown(position: tuple[RankedToken, ...], num_top: int) -> Iterable[RankedToken]:
    """Return the prompt's own token and the `num_top` most probable ones. The engine may have been asked for more."""
    return (one for place, one in enumerate(position) if place == 0 or one.rank <= num_top)


def _completion_token(named: Sequence[tuple[str, float]]) -> CompletionToken:
    """Return a token and its alternatives, itself the first of them. Of several alternatives with one text, the most probable is kept."""
    top: dict[str, float] = {}
    for name, logprob in named:
        top.setdefault(name, _finite(logprob))
    [own, *_] = named
    return CompletionToken(own[0], _finite(own[1]), top)


def _chat_token(token: str, token_id: int, logprob: float, *, as_ids: bool) -> dict[str, Any]:
    name = _name(token, token_id, as_ids=as_ids)
    return {"token": name, "logprob": _finite(logprob), "bytes": list(token.encode(errors="replace"))}


def _name(token: str, token_id: int, *, as_ids: bool) -> str:
    return f"token_id:{token_id}" if as_ids else token


def _finite(logprob: float) -> float:
    """Return a number that JSON has. OpenAI's own API sends -9999 for a token that is too improbable."""
    return max(logprob, -9999.0)
