"""The values of search: what is to be answered, what one call draws, and what comes back. All of them are frozen.

This package knows nothing of HTTP, vLLM or metering: the ports (`strategies.core.ports`) say what a strategy needs from outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from strategies.core.thinking import Thinking


class AnswerKind(StrEnum):
    """What a final answer is. It decides how two answers are compared."""

    MATH = "math"
    CHOICE = "choice"
    JSON = "json"
    TOOLS = "tools"
    TEXT = "text"
    OPEN = "open"  # answers cannot be compared, so a vote would mean nothing


class StopReason(StrEnum):
    """Why a strategy returned."""

    COMPLETED = "completed"  # it drew all that its parameters asked for
    SETTLED = "settled"  # more samples, or more thinking, would probably, or certainly, not change the answer
    DIMINISHING_RETURNS = "diminishing_returns"  # more samples are not expected to be worth their FLOPs at the caller's effort
    VERIFIED = "verified"  # an exact verifier has proven an answer
    TOKENS = "budget_tokens"
    FLOPS = "budget_flops"
    SECONDS = "budget_seconds"


BUDGETS = frozenset({StopReason.TOKENS, StopReason.FLOPS, StopReason.SECONDS})
"""The reasons that a strategy does not decide itself."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its log-probability.

    Attributes:
        logprob: natural logarithm of the token's probability; 0 for an inserted token.
        top: the most probable tokens in its place, each with its log-probability.
        top_ids: the ids of these tokens.
        is_inserted: the calculator or the server wrote it, not the model.

    """

    token: str
    token_id: int
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    is_inserted: bool = False
    top_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one branch has generated since its last delta.

    Attributes:
        index: of the branch's candidate.
        text: generated since then.
        token_ids: of the text.
        logprobs: one entry for each token; empty if none were asked for.
        finish_reason: None while the branch runs, else that of its candidate.
        stop_reason: the stop string or the token id that ended the branch, if one did.

    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    @property
    def is_last(self) -> bool:
        """Whether its candidate has ended."""
        return self.finish_reason is not None

    @property
    def is_cut(self) -> bool:
        """Whether its candidate has ended, and the model did not end it."""
        return self.finish_reason not in (None, "stop")


@dataclass(frozen=True, slots=True)
class Cost:
    """What drawing one candidate cost.

    Attributes:
        cached_tokens: number of the prefix's tokens that were found in the cache.
        flops: of prefill and decoding together.
        started: seconds from the start of the request to the start of the branch.
        seconds: from the start of the branch to its last token, including the wait for a slot.

    """

    cached_tokens: int = 0
    flops: int = 0
    started: float = 0.0
    seconds: float = 0.0


Watch = Callable[[Sequence[TokenLogprob]], bool]
"""Watches one branch: it is called with the log-probabilities of new tokens, with each token once, and returns whether to end it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where a piece of an answer ends, at the first of these.

    Attributes:
        separators: any of these texts, which stay at the end of the piece.
        max_tokens: the most tokens of the piece.
        until: called with the text of the branch whenever it grows. The branch ends soon after it returns True; a few more tokens may
            come. It runs between two tokens, so it must be quick.
        watch: returns a new `Watch` for each branch, which ends it likewise (finish reason "cut"), also behind the end of a step. The
            draw must ask for log-probabilities.

    """

    separators: tuple[str, ...] = ()
    max_tokens: int | None = None
    until: Callable[[str], bool] | None = None
    watch: Callable[[], Watch] | None = None


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
        answer_start: number of token ids of the prefix before the answer that is continued; by default those of the prompt. A further turn
            of the conversation begins an answer of its own.
        max_tokens: the most tokens that each continuation may have; by default what the answer may still have after the prefix.
        temperature: of this call; None for the request's temperature.
        on_delta: called with every piece of text as it is generated, if the caller reads a stream.
        needs_deltas: what is drawn next depends on `on_delta`, so it is called whether or not the caller reads a stream.
        is_check: it is drawn to check an answer and is part of none, so it is booked as the tokens of verifiers are.
        ends_loops: whether a continuation that begins to repeat the same tokens is ended (finish reason "repetition").

    """

    prefix: tuple[int, ...]
    n: int
    first_index: int = 0
    num_logprobs: int | None = None
    step: Step = Step()
    answer_start: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    on_delta: Callable[[Delta], None] | None = None
    needs_deltas: bool = False
    is_check: bool = False
    ends_loops: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled answer or step, or what there was of it when its branch was ended.

    Attributes:
        index: its number in the order in which candidates were asked for, from 0; never the order of completion.
        text: that was generated.
        token_ids: of the text.
        finish_reason: "stop" (end of sequence or the caller's stop string), "step" (the end of a `Step`), "length" (of the answer),
            "repetition" (it began to repeat the same tokens), "cut" (by `Step.watch`), or "abort" (ended by the caller, budget,
            deadline).
        stop_reason: the stop string or the token id that ended it, if one did.
        logprobs: one entry for each token; empty unless the draw asked for them.
        step_start: number of tokens before the last step, which is what a verifier of steps scores; 0 to score the whole.
        last_step: the text of the last step.
        num_inserted: number of its tokens that the server wrote, not the model: the end of a thinking, a corrected result.
        is_thinking_cut: whether the budget for thinking has ended its thinking.
        num_thinking: how many of its first tokens are thinking, marks included.
        is_thinking: it ended inside its thinking, so it has no answer.
        cost: of drawing it. Two candidates that differ only in it are equal.

    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    stop_reason: int | str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    step_start: int = 0
    last_step: str = ""
    num_inserted: int = 0
    is_thinking_cut: bool = False
    num_thinking: int = 0
    is_thinking: bool = False
    cost: Cost = field(default=Cost(), compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether the model ended it, behind its thinking. One that was cut has no trustworthy final answer."""
        return self.finish_reason == "stop" and not self.is_thinking

    @property
    def completeness(self) -> int:
        """A key to sort by: 2 for a complete one, 1 for one that was cut in its answer, 0 for one that has no answer."""
        return 2 if self.is_complete else int(not self.is_thinking)


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
        context_tokens: the most tokens that the prompt and all that follows it may have together; None where that is not known.
        seed: the caller's, for what a strategy draws at random itself; the branches of the model have seeds already.
        end_tokens: ids that end an answer. They are left out where the conversation goes on.
        is_constrained: a grammar holds from the first token on, so an answer cannot be continued from its middle.
        is_continuable: an answer may be continued from its middle: the caller asks for nothing (penalties, stop strings, a least length)
            that would begin anew there.
        has_own_loops: the caller says itself what a loop is, and the engine alone keeps to it.
        thinking: how the model marks its thinking in replies; None where it does not think.
        read: returns the text of a candidate that is compared and scored: its content, or its tool calls as canonical JSON; empty where
            it has only thinking.
        encode: returns the token ids of a text that continues what was generated.
        follow_up: returns the token ids that end the assistant's turn, put a text as the user's, and open the assistant's next turn, in
            which it replies without thinking.
        next_turn: returns the same for a turn in which it thinks, if it thinks at all; None where it never does.

    """

    question: str
    prefix: tuple[int, ...]
    kind: AnswerKind
    num_choices: int = 1
    num_logprobs: int | None = None
    max_tokens: int = 2048
    context_tokens: int | None = None
    seed: int | None = None
    end_tokens: frozenset[int] = frozenset()
    is_constrained: bool = False
    is_continuable: bool = True
    has_own_loops: bool = False
    thinking: Thinking | None = None
    read: Callable[[Candidate], str] = lambda candidate: candidate.text
    encode: Callable[[str], tuple[int, ...]] = lambda _text: ()
    follow_up: Callable[[str], tuple[int, ...]] = lambda _text: ()
    next_turn: Callable[[str], tuple[int, ...]] | None = None

    @property
    def ends_loops(self) -> bool:
        """Whether an answer that repeats the same tokens is ended. A prompt may ask for repeated text, and JSON may hold long lists."""
        is_compared = self.kind in (AnswerKind.MATH, AnswerKind.CHOICE, AnswerKind.TEXT)
        return is_compared and not self.is_constrained and not self.has_own_loops

    def prefix_with(self, candidate: Candidate) -> tuple[int, ...]:
        """Return the token ids of the prompt and the candidate, without an end token, so that something can be asked about them.

        Thinking that has not ended is ended.
        """
        token_ids = candidate.token_ids
        end = self.thinking.end_ids if self.thinking is not None and candidate.is_thinking else ()
        return (*self.prefix, *(token_ids[:-1] if token_ids and token_ids[-1] in self.end_tokens else token_ids), *end)

    def judged(self, candidate: Candidate) -> str:
        """Return what a verifier of steps reads of a candidate: its answer, or its thinking while there is no answer yet."""
        return candidate.text if candidate.is_thinking else self.read(candidate)


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate with what was read from it.

    Attributes:
        answer: its canonical answer; None if none could be read, or if it had no vote.
        score: in [0, 1]; None if it was not scored.

    """

    candidate: Candidate
    answer: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class VerifierPrompt:
    """How an adapter is asked whether an answer, or its last step, is right.

    Attributes:
        template: the whole prompt if it contains `{answer}` (and perhaps `{question}` and `{step}`), else what follows the answer.
        yes: the word for right; only its first token counts.
        no: the word for wrong, likewise.

    """

    template: str
    yes: str
    no: str
