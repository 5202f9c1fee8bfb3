"""The values of one request: what is asked, by which caller, and the outcome. Free of HTTP."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from adapters.names import AdapterRef
from app.metering.budget import Budget
from strategies.core.results import Result
from strategies.core.values import AnswerKind, ScoredCandidate, StopReason

NUM_BINS = 5
"""The number of bins of difficulty, from the easiest questions to the hardest."""


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
    "max": Effort.HIGH,
}


def effort_of(effort: Effort | None, reasoning_effort: str | None) -> Effort:
    """Return the caller's `effort`, else the one that OpenAI's `reasoning_effort` stands for, else medium."""
    return effort or _FROM_OPENAI.get(reasoning_effort or "", Effort.MEDIUM)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        key: an opaque id of the API key, for quotas and traces.
        cache_salt: requests share cached prefixes only if they have the same salt, so that callers learn nothing of the prompts of others.
        owner: an id of the API key that stays the same after a restart, for what is kept.

    """

    key: str
    cache_salt: str | None = None
    owner: str = "anonymous"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows one request.

    Attributes:
        max_n: the most branches of one prompt that run at once.
        max_prompt_chars: the most characters of the prompt.
        budget: the most tokens, FLOPs and seconds.

    """

    max_n: int
    max_prompt_chars: int
    budget: Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """A request, free of HTTP.

    Attributes:
        id: names its trace; the caller may choose it.
        bodies: what the engine renders, one body for each prompt.
        is_chat: whether the request is a conversation; otherwise it is one or several texts to continue.
        question: the last user message.
        num_chars: the number of characters of all prompts together.
        adapter: the adapter that answers, or one version of it; None for the base model.
        strategy: the name of the strategy that the caller chose; None leaves the choice to the policy.
        parameters: the parameters of that strategy, not validated yet.
        budget: the caller's own budget. The operator's limits apply besides.
        kind: the kind of the answer if the caller named it, else None.
        num_choices: OpenAI's `n`.
        num_logprobs: alternatives for each token that the caller wants to see; None for no log-probabilities.
        num_prompt_logprobs: the same for the tokens of the prompt.
        shows_prompt: whether the reply has the prompt's text.
        generates: whether there is an answer at all; otherwise the caller wants only the prompt, and its log-probabilities.
        has_tools: whether the model may call tools.
        response_format: OpenAI's field `response_format`, as a dictionary.
        is_watched: whether the caller reads a stream of tokens and progress.
        shows_nodes: whether the stream also carries the search tree.
        trace_context: the caller's `traceparent` and `tracestate`, not validated, for a tracer to read.
        modalities: what the model must be able to read besides text: `image`, `audio` or `video`.
        prefill: the beginning of the answer, which stands at the end of the prompt; the candidates continue it.
        cache_salt: the caller's own salt for cached prefixes, besides the one of its key.
        ignored_fields: names of fields of the body that nobody knows.
        notes: what the caller should know of how its body was read.
        risk: the most accuracy, 0 to 1, that may be lost against the best fixed plan; None leaves that to the effort.
        flop_price: the accuracy that a FLOP must gain, where a cascade asks; None for the price of the effort.
        is_followed: whether a cascade may ask another model after this one; None where the caller has named the model.
        owner: the id of the caller's API key that stays the same after a restart.
        may_be_kept: whether the operator may keep the question, to calibrate with it.

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
    risk: float | None = None
    flop_price: float | None = None
    is_followed: bool | None = None
    num_choices: int = 1
    num_logprobs: int | None = None
    num_prompt_logprobs: int | None = None
    shows_prompt: bool = False
    generates: bool = True
    seed: int | None = None
    temperature: float | None = None
    has_tools: bool = False
    response_format: Mapping[str, Any] | None = None
    is_watched: bool = False
    shows_nodes: bool = False
    trace_context: Mapping[str, str] = field(default_factory=dict)
    modalities: frozenset[str] = frozenset()
    prefill: str = ""
    cache_salt: str | None = None
    ignored_fields: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    owner: str = "anonymous"
    may_be_kept: bool = True

    @property
    def is_sampled(self) -> bool:
        """Whether the caller sets a field of sampling."""
        return any(body.get(name) is not None for body in self.bodies for name in ("temperature", "top_p", "top_k", "min_p"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a request: one result for each prompt, and why the request stopped."""

    results: tuple[Result, ...]
    stop_reason: StopReason

    def choices(self) -> Iterator[tuple[int, int, ScoredCandidate]]:
        """Yield each answer of the reply: the position of its prompt, its own position in the reply, and the candidate."""
        chosen = ((prompt, scored) for prompt, result in enumerate(self.results) for scored in result.chosen)
        return ((prompt, index, scored) for index, (prompt, scored) in enumerate(chosen))
