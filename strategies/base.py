"""The vocabulary of test-time search, and the two ports through which it reaches a model.

Everything here is frozen: a strategy receives values and returns values. This module knows nothing of HTTP,
vLLM or metering; `Model` is implemented by the metered handle of the service, `Verifier` by `strategies.verifiers`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class AnswerKind(StrEnum):
    """What a final answer is, and so how two of them are compared."""

    MATH = "math"
    CHOICE = "choice"
    JSON = "json"
    TOOLS = "tools"
    TEXT = "text"
    OPEN = "open"  # nothing to compare: a vote would be meaningless


class StopReason(StrEnum):
    """Why a strategy returned."""

    COMPLETED = "completed"  # it drew all that its parameters asked for
    SETTLED = "settled"  # more samples would not change the answer (posterior, or no longer possible)
    TOKENS = "budget_tokens"
    FLOPS = "budget_flops"
    SECONDS = "budget_seconds"


class StrategyError(Exception):
    """Base of what a strategy can refuse.

    StrategyError
    +-- UnsupportedTask    the parameters cannot be honoured for this task
    """


class UnsupportedTask(StrategyError):
    """The parameters cannot be honoured for this task. `parameter` names the one at fault."""

    def __init__(self, message: str, *, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token with its log-probability (natural logarithm) and the most probable alternatives."""

    token: str
    token_id: int
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one branch produced since the last delta. `index` is the branch's position in its `sample` call."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One complete sampled answer, or as much of one as there was when its branch was ended.

    Attributes:
        index: position in the order in which candidates were asked for, from 0; never the order of completion.
        finish_reason: "stop" (end of sequence or stop string), "length", or "abort" (ended by the caller, budget, deadline).
        logprobs: one entry per generated token, empty unless the sampling asked for them.

    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    stop_reason: int | str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the model ended it by itself; a truncated chain has no trustworthy final answer."""
        return self.finish_reason == "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be answered.

    Attributes:
        question: the text of the last user message, for verifiers and progress; never parsed for instructions.
        prefix: token ids of the rendered prompt.
        kind: how answers are compared.
        num_choices: how many answers the caller wants back (OpenAI's `n`), best first.
        num_logprobs: alternatives per token that the caller wants to see; None when it wants no log-probabilities.
        read: the text of a candidate that is voted on (its content, or its tool calls as canonical JSON).
        encode: token ids of a text that continues what was generated.

    """

    question: str
    prefix: tuple[int, ...]
    kind: AnswerKind
    num_choices: int = 1
    num_logprobs: int | None = None
    read: Callable[[Candidate], str] = lambda candidate: candidate.text
    encode: Callable[[str], tuple[int, ...]] = lambda _text: ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with its canonical answer (None: none could be read) and its score in [0, 1] (None: not scored)."""

    candidate: Candidate
    answer: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The whole story of one run: `chosen` are the answers, best first; `candidates` everything that was drawn, by index."""

    chosen: tuple[Scored, ...]
    candidates: tuple[Scored, ...]
    stop_reason: StopReason


@dataclass(frozen=True, slots=True)
class Progress:
    """One line about the search for a caller who watches it, e.g. "Candidate 3 of 8: 42 (leading: 42, 3 votes)"."""

    text: str


Emit = Callable[[Delta | Progress], None]
"""Where a strategy reports; never blocks."""


def silent(_event: Delta | Progress) -> None:
    """The `Emit` of a caller who does not watch."""


class Model(Protocol):
    """What a strategy may ask of the model. Every call is metered and refuses to overspend."""

    def sample(
        self,
        prefix: Sequence[int],
        n: int,
        *,
        first_index: int = 0,
        num_logprobs: int | None = None,
        on_delta: Callable[[Delta], None] | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[Candidate]]:
        """Draw `n` continuations of `prefix` together; iterate over them as they complete.

        Candidates are numbered from `first_index`, and each index has its own seed when the request has one.
        Leaving the context ends the branches that still run, and their tokens are counted. When the budget runs out
        the iteration ends early: partial candidates (finish reason "abort") are delivered, then `stopped` says why.
        `num_logprobs` asks for the log-probability of each token and that many alternatives (None: not even its own).
        """
        ...

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        """Log-probability of each token of `options` as the next one after `prefix`."""
        ...

    def using(self, adapter: str) -> "Model":
        """The same request's model, budget and all, with another adapter: one of those that the strategy's parameters name.

        All adapters of a request are held from its first to its last branch, each at one version.
        """
        ...

    @property
    def stopped(self) -> StopReason | None:
        """The budget that ran out, or None while there is one left."""
        ...


class Verifier(Protocol):
    """Scores candidates, all of them at once.

    Attributes:
        name: as in the registry.
        num_logprobs: what it needs of `Model.sample`, None for nothing.

    """

    name: str
    num_logprobs: int | None

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """One score in [0, 1] for each candidate, higher is better, in the order given."""
        ...


Run = Callable[[Task, Model, Emit], Awaitable[Result]]
"""A strategy with its parameters bound."""
