"""What vLLM's pooling routes are sent, and how their replies are read (vLLM 0.32, `entrypoints/pooling`)."""

import json
import math
from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field, ValidationError

from app.reward_models.options import PLACEHOLDER, RewardModelOptions
from strategies.core.values import Candidate, Task

ROUNDING = 1e-6
"""How far beyond [0, 1] a number may lie that was meant to be within: the server computes in 32 bits or fewer."""

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Numbers = Annotated[list[_Number], Field(min_length=1)]


class UnusableReply(Exception):
    """The reply holds no scores. The message is for the log, and holds nothing of the reply."""


class _Classified(BaseModel):
    index: int
    probs: _Numbers


class _Rated(BaseModel):
    index: int
    score: _Number


class _Pooled(BaseModel):
    index: int
    data: Annotated[list[_Numbers], Field(min_length=1)] | _Numbers


_Item = TypeVar("_Item", _Classified, _Rated, _Pooled)


class _Reply(BaseModel, Generic[_Item]):
    data: list[_Item]


def request_body(options: RewardModelOptions, task: Task, candidates: Sequence[Candidate]) -> bytes:
    """All candidates in one request."""
    body: dict[str, object] = {}
    if options.route == "score":
        body |= {"text_1": task.question, "text_2": [candidate.text for candidate in candidates]}
    else:
        body["input"] = [_text(options.template, task, candidate) for candidate in candidates]
    for name in ("model", "use_activation", "add_special_tokens"):
        if (value := getattr(options, name)) is not None:
            body[name] = value
    return json.dumps(body).encode()  # all ASCII, so that half a surrogate pair cannot break it


def _text(template: str, task: Task, candidate: Candidate) -> str:
    """Text is put in, never interpreted."""
    parts = {"question": task.question, "answer": candidate.text, "step": candidate.last_step or candidate.text}
    return PLACEHOLDER.sub(lambda match: parts[match[1]], template)


def read_scores(options: RewardModelOptions, reply: bytes, num: int) -> list[float]:
    """As many scores in [0, 1], in the order of the request; raises `UnusableReply`."""
    try:
        verdicts = _verdicts(options, reply)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"] if isinstance(part, int) or part.isidentifier())
        message = f"{where or 'reply'}: {fault['type']}"
        raise UnusableReply(message) from None
    if [index for index, _ in verdicts] != list(range(num)):
        message = f"not one score for each of {num} answers"
        raise UnusableReply(message)
    return [_within(options, verdict) for _, verdict in verdicts]


def _verdicts(options: RewardModelOptions, reply: bytes) -> list[tuple[int, float]]:
    """Index and number, by index."""
    verdicts: list[tuple[int, float]]
    match options.route:
        case "classify":
            classified = _Reply[_Classified].model_validate_json(reply).data
            verdicts = [(item.index, _of_label(item.probs, options.label_index)) for item in classified]
        case "score":
            verdicts = [(item.index, item.score) for item in _Reply[_Rated].model_validate_json(reply).data]
        case "pooling":
            verdicts = [(item.index, _last(item.data)) for item in _Reply[_Pooled].model_validate_json(reply).data]
    return sorted(verdicts)


def _of_label(probs: list[float], index: int) -> float:
    if not -len(probs) <= index < len(probs):
        message = f"there is no class {index} among {len(probs)}"
        raise UnusableReply(message)
    return probs[index]


def _last(data: list[list[float]] | list[float]) -> float:
    """The last value of the last step; where there are no steps, of all."""
    last = data[-1]
    return last[-1] if isinstance(last, list) else last


def _within(options: RewardModelOptions, verdict: float) -> float:
    if options.activation == "sigmoid":
        return 1 / (1 + math.exp(-max(min(verdict, 700.0), -700.0)))
    if not -ROUNDING <= verdict <= 1 + ROUNDING:
        message = 'a score beyond [0, 1], and no "activation": "sigmoid" in the options'
        raise UnusableReply(message)
    return max(0.0, min(1.0, verdict))
