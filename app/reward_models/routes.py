"""Requests to vLLM's pooling routes and their replies (as of vLLM 0.32, `entrypoints/pooling`)."""

import json
import math
from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field, ValidationError

from app.reward_models.options import PLACEHOLDER, RewardModelOptions
from strategies.core.values import Candidate, Task

ROUNDING = 1e-6
"""How far outside of [0, 1] a score may lie: the server computes in 32 bits or fewer, and rounds."""

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Numbers = Annotated[list[_Number], Field(min_length=1)]


class UnusableReply(Exception):
    """The reply holds no usable scores. The message is for the log, and holds nothing of the reply."""


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
    """Return the body of one request that scores all candidates."""
    body: dict[str, object] = {}
    if options.route == "score":
        body |= {"text_1": task.question, "text_2": [task.judged(candidate) for candidate in candidates]}
    else:
        body["input"] = [_text(options.template, task, candidate) for candidate in candidates]
    for name in ("model", "use_activation", "add_special_tokens"):
        if (value := getattr(options, name)) is not None:
            body[name] = value
    return json.dumps(body).encode()  # `json.dumps` writes ASCII alone, so a lone surrogate in a text cannot fail to encode


def _text(template: str, task: Task, candidate: Candidate) -> str:
    """Fill the template in one pass, so that placeholders in a question or an answer stay as they are."""
    answer = task.judged(candidate)
    parts = {"question": task.question, "answer": answer, "step": candidate.last_step or answer}
    return PLACEHOLDER.sub(lambda match: parts[match[1]], template)


def read_scores(options: RewardModelOptions, reply: bytes, num: int) -> list[float]:
    """Return `num` scores, 0 to 1, in the order of the candidates; raises `UnusableReply`."""
    try:
        numbers = _numbers(options, reply)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"] if isinstance(part, int) or part.isidentifier())
        message = f"{where or 'reply'}: {fault['type']}"
        raise UnusableReply(message) from None
    if [index for index, _ in numbers] != list(range(num)):
        message = f"not one score for each of {num} answers"
        raise UnusableReply(message)
    return [_score(options, number) for _, number in numbers]


def _numbers(options: RewardModelOptions, reply: bytes) -> list[tuple[int, float]]:
    """Return pairs of a candidate's index and the number that the server gave it, sorted by index."""
    numbers: list[tuple[int, float]]
    match options.route:
        case "classify":
            classified = _Reply[_Classified].model_validate_json(reply).data
            numbers = [(item.index, _of_label(item.probs, options.label_index)) for item in classified]
        case "score":
            numbers = [(item.index, item.score) for item in _Reply[_Rated].model_validate_json(reply).data]
        case "pooling":
            numbers = [(item.index, _last(item.data)) for item in _Reply[_Pooled].model_validate_json(reply).data]
    return sorted(numbers)


def _of_label(probs: list[float], index: int) -> float:
    if not -len(probs) <= index < len(probs):
        message = f"there is no class {index} among {len(probs)}"
        raise UnusableReply(message)
    return probs[index]


def _last(data: list[list[float]] | list[float]) -> float:
    """Return the last value of the last step; without steps, the last value."""
    last = data[-1]
    return last[-1] if isinstance(last, list) else last


def _score(options: RewardModelOptions, number: float) -> float:
    """Return a score, 0 to 1; raises `UnusableReply` for a number that is not in that range and not meant to be mapped into it."""
    if options.activation == "sigmoid":
        return 1 / (1 + math.exp(-max(min(number, 700.0), -700.0)))  # `math.exp` overflows beyond 709
    if not -ROUNDING <= number <= 1 + ROUNDING:
        message = 'a score beyond [0, 1], and no "activation": "sigmoid" in the options'
        raise UnusableReply(message)
    return max(0.0, min(1.0, number))
