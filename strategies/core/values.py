"""The values of search: what is to be answered, what one call draws, and what comes back. All of them are frozen.

This package knows nothing of HTTP, vLLM or metering: the ports (`strategies.core.ports`) say what a strategy needs from outside.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


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
    DIMINISHING_RETURNS = "diminishing_returns"  # more samples are not expected to be worth their FLOPs at the caller's effort
    VERIFIED = "verified"  # a verifier that does not err accepted an answer
    TOKENS = "budget_tokens"
    FLOPS = "budget_flops"
    SECONDS = "budget_seconds"


BUDGETS = frozenset({StopReason.TOKENS, StopReason.FLOPS, StopReason.SECONDS})
"""Reasons that are no decision of the strategy's."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its log-probability.

    Attributes:
        logprob: natural logarithm of the token's probability; 0 for an inserted token.
        top: the most probable tokens in its place, each with its log-probability.
        is_inserted: the calculator wrote it, not the model.

    """

    token: str
    token_id: int
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    is_inserted: bool = False


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
class Cost:
    """What drawing one candidate cost.

    Attributes:
        cached_tokens: of the prefix, those found in the cache.
        flops: prefill and decoding together.
        started: seconds after the request's start.
        seconds: from the grant to the last token.

    """

    cached_tokens: int = 0
    flops: int = 0
    started: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """How a piece of an answer ends: at one of the `separators`, which stay in the text, after `max_tokens`, or soon after `until` says so.

    Attributes:
        until: asked of what the branch has written so far, whenever that grows; must be quick. A few tokens more may come.

    """

    separators: tuple[str, ...] = ()
    max_tokens: int | None = None
    until: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """What one call of `Model.sample` draws: how many continuations of which prefix, and where each of them ends.

    Attributes:
        prefix: token ids that every continuation begins after.
        n: number of continuations. They are drawn together, so that the engine batches them.
        first_index: index of the first continuation; the others are numbered after it. Each index has its own
            seed when the request has one.
        num_logprobs: number of alternatives per token whose log-probabilities are returned; 0: the sampled token's own log-probability
            only; None: no log-probabilities.
        step: where each continuation ends at the latest; by default only where the answer ends.
        max_tokens: the most tokens that each continuation may have; by default what the answer may still have after the prefix, not
            counting the prompt's tokens.
        temperature: of this call; None for the request's temperature.
        on_delta: called with every piece of text as it is generated.

    """

    prefix: tuple[int, ...]
    n: int
    first_index: int = 0
    num_logprobs: int | None = None
    step: Step = Step()
    max_tokens: int | None = None
    temperature: float | None = None
    on_delta: Callable[[Delta], None] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled answer or step, or as much of one as there was when its branch was ended.

    Attributes:
        index: position in the order in which candidates were asked for, from 0; never the order of completion.
        finish_reason: "stop" (end of sequence or the caller's stop string), "step" (the end of a `Step`), "length" (of the answer), or
            "abort" (ended by the caller, budget, deadline).
        logprobs: one entry per generated token, empty unless the sampling asked for them.
        step_start: where its last step begins, in tokens: what a verifier of steps judges; 0 to judge the whole.
        last_step: the text from there.
        cost: of drawing it; tells nothing of what it says.

    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    stop_reason: int | str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    step_start: int = 0
    last_step: str = ""
    cost: Cost = field(default=Cost(), compare=False)

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
        max_tokens: the most that one answer may generate.
        seed: the caller's, for what a strategy draws itself; the model's branches have theirs already.
        end_tokens: ids that end an answer, and so have no place in the middle of a conversation.
        is_constrained: a grammar holds from the first token on, so that an answer cannot be continued from its middle.
        is_seamless: nothing that the caller asks for (penalties, stop strings, a least length) would begin anew where it is continued.
        read: the text of a candidate that is voted on (its content, or its tool calls as canonical JSON).
        encode: token ids of a text that continues what was generated.
        follow_up: token ids that end the assistant's turn, ask a text as the user, and open the assistant's next turn.

    """

    question: str
    prefix: tuple[int, ...]
    kind: AnswerKind
    num_choices: int = 1
    num_logprobs: int | None = None
    max_tokens: int = 2048
    seed: int | None = None
    end_tokens: frozenset[int] = frozenset()
    is_constrained: bool = False
    is_continuable: bool = True
    read: Callable[[Candidate], str] = lambda candidate: candidate.text
    encode: Callable[[str], tuple[int, ...]] = lambda _text: ()
    follow_up: Callable[[str], tuple[int, ...]] = lambda _text: ()

    def prefix_with(self, candidate: Candidate) -> tuple[int, ...]:
        """The prompt and what the candidate says, open to be continued."""
        token_ids = candidate.token_ids
        return (*self.prefix, *(token_ids[:-1] if token_ids and token_ids[-1] in self.end_tokens else token_ids))


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate with its canonical answer (None: none could be read) and its score in [0, 1] (None: not scored)."""

    candidate: Candidate
    answer: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class VerifierPrompt:
    """How an adapter is asked whether an answer, or its last step, is right.

    Attributes:
        template: with `{answer}` (and `{question}`, `{step}`) in it, the whole prompt; without, what follows the answer.
        yes: the word that says so, `no` its opposite; the first token of each counts.

    """

    template: str
    yes: str
    no: str
