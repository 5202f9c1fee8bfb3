"""What the service is asked, by whom, and what comes of it: values free of HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from adapters.names import AdapterRef
from app.metering.budget import Budget
from strategies.core.results import Result
from strategies.core.values import AnswerKind, StopReason


class Effort(StrEnum):
    """How much compute a point of accuracy is worth to the caller."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


_FROM_OPENAI = {
    "none": Effort.LOW,
    "minimal": Effort.LOW,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.HIGH,
}


def effort_of(effort: Effort | None, reasoning_effort: str | None) -> Effort:
    """The caller's own effort, else OpenAI's `reasoning_effort`, else medium."""
    return effort or _FROM_OPENAI.get(reasoning_effort or "", Effort.MEDIUM)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `key` is an opaque id for quotas; branches share cached prefixes only under the same `cache_salt`."""

    key: str
    cache_salt: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows one request."""

    max_n: int
    max_prompt_chars: int
    budget: Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """A request, free of HTTP.

    Attributes:
        bodies: what the engine renders, one for each prompt.
        adapter: the adapter that answers, or one version of it; None for the base model.
        question: the last user message.
        strategy: named by the caller: the first of body, header, model name and path; None leaves it to the policy.
        parameters: of that strategy, not validated yet.
        trace_context: the caller's `traceparent` and `tracestate`, unchecked, for a tracer to read.
        is_watched: the caller wants to see tokens and progress as they come; `shows_nodes`: and the tree too.

    """

    id: str
    bodies: tuple[Mapping[str, Any], ...]
    is_chat: bool
    question: str
    num_chars: int
    adapter: AdapterRef | None = None
    strategy: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    kind: AnswerKind | None = None
    effort: Effort = Effort.MEDIUM
    num_choices: int = 1
    num_logprobs: int | None = None
    seed: int | None = None
    temperature: float | None = None
    has_tools: bool = False
    response_format: Mapping[str, Any] | None = None
    is_watched: bool = False
    shows_nodes: bool = False
    trace_context: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_sampled(self) -> bool:
        """Whether the caller says how to sample."""
        return any(body.get(name) is not None for body in self.bodies for name in ("temperature", "top_p", "top_k", "min_p"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One result for each prompt, and what they cost together."""

    results: tuple[Result, ...]
    stop_reason: StopReason
