"""The strategies' own code over a pool: what it would have answered, and what it would have cost.

Branches that are drawn together advance together, one token at a time, as vLLM runs them: when the strategy leaves a draw, the others
have as many tokens as the longest answer that it has waited for, and are charged with them.
"""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

from app.calibration.pool import Drawn, How, Sample
from strategies.base import (
    AnswerKind,
    Candidate,
    Delta,
    Inquiry,
    Step,
    StopReason,
    Task,
    TokenLogprob,
    UnsupportedTask,
    Verifier,
    silent,
)
from strategies.registry import STRATEGIES
from strategies.strategy import Tools

JUDGE = "recorded"
"""Names the verifier whose scores are in the pool, as a reward model."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one question.

    Attributes:
        flops: all that is charged, `verified` the verifier's part of it.
        tokens: decoded, by all branches.
        num_drawn: branches that were begun.

    """

    is_right: bool
    flops: int
    verified: int
    tokens: int
    num_drawn: int
    stop_reason: StopReason


@dataclass(frozen=True)
class Question:
    """A question of a pool, ready to be replayed often: candidates are made once.

    Attributes:
        cached: tokens of the prompt that are in the cache once one branch has been through it.

    """

    drawn: Drawn
    how: How
    candidates: tuple[Candidate, ...] = field(init=False)
    greedy: Candidate = field(init=False)
    cached: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidates", tuple(_candidate(one) for one in self.drawn.samples))
        object.__setattr__(self, "greedy", _candidate(self.drawn.greedy))
        object.__setattr__(self, "cached", max(one.cached for one in (self.drawn.greedy, *self.drawn.samples)))

    def order(self, seed: int) -> list[int]:
        """The samples in an order of their own for each seed; 0 is that in which they were drawn."""
        order = list(range(len(self.candidates)))
        if seed:
            random.Random(f"{self.drawn.key}-{seed}").shuffle(order)  # noqa: S311 - not for secrets
        return order

    def replay_greedy(self) -> Replayed:
        """`direct` at temperature 0."""
        greedy = self.drawn.greedy
        flops = sum(self.how.flops.branch_cost(len(self.drawn.prefix), 0, len(greedy.token_ids)))
        return Replayed(greedy.is_right, flops, 0, len(greedy.token_ids), 1, StopReason.COMPLETED)

    async def replay(self, strategy: str, params: dict[str, Any], tools: Tools, seed: int = 0) -> Replayed:
        """Run a strategy of the registry on the samples in one of their orders."""
        model = Replay(self, self.order(seed))
        tools = replace(tools, reward_models={JUDGE: Recorded(self, model)})
        spec = STRATEGIES[strategy]
        task = Task(question=self.drawn.question, prefix=self.drawn.prefix, kind=AnswerKind(self.drawn.kind))
        result = await spec(spec.Params.model_validate(params), tools)(task, model, silent)
        is_right = bool(result.chosen) and model.sample_of(result.chosen[0].candidate.index).is_right
        flops = model.flops + model.verified
        return Replayed(is_right, flops, model.verified, model.tokens, model.num_drawn, result.stop_reason)


class Replay:
    """`strategies.base.Model` over the samples of one question, in a given order.

    Attributes:
        flops: of generation, as far as it came; `verified`: booked by verifiers.
        tokens: decoded.

    """

    inquiry: Inquiry | None = None
    deadline: float | None = None
    stopped: StopReason | None = None

    def __init__(self, question: Question, order: Sequence[int]) -> None:
        self._question = question
        self._order = order
        self._architecture = question.how.flops
        self.flops = 0
        self.verified = 0
        self.tokens = 0
        self.num_drawn = 0

    def sample_of(self, index: int) -> Sample:
        """What stands behind a candidate's index."""
        return self._question.drawn.samples[self._order[index]]

    @asynccontextmanager
    async def sample(
        self,
        prefix: Sequence[int],
        n: int,
        *,
        first_index: int = 0,
        num_logprobs: int | None = None,
        step: Step | None = None,
        max_tokens: int | None = None,
        on_delta: Callable[[Delta], None] | None = None,  # noqa: ARG002 - nobody watches
    ) -> AsyncIterator[AsyncIterator[Candidate]]:
        """The next `n` of the pool; raises `UnsupportedTask` for what was not drawn."""
        if tuple(prefix) != self._question.drawn.prefix or step is not None or max_tokens is not None or num_logprobs:
            raise UnsupportedTask(
                "a pool holds whole answers only, with no other log-probabilities than theirs", parameter="strategy"
            )
        if first_index + n > len(self._order):
            raise UnsupportedTask(f"the pool has {len(self._order)} samples", parameter="n")
        drawn = [replace(self._question.candidates[self._order[i]], index=i) for i in range(first_index, first_index + n)]
        drawn.sort(key=lambda candidate: len(candidate.token_ids))  # as they end
        reached = 0

        async def arrivals() -> AsyncIterator[Candidate]:
            nonlocal reached
            for candidate in drawn:
                reached = len(candidate.token_ids)
                yield candidate

        try:
            yield arrivals()
        finally:
            for candidate in drawn:
                self._charge(min(len(candidate.token_ids), reached))

    def _charge(self, tokens: int) -> None:
        cached = self._question.cached if self.num_drawn else 0
        self.flops += sum(self._architecture.branch_cost(len(self._question.drawn.prefix), cached, tokens))
        self.tokens += tokens
        self.num_drawn += 1

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:  # noqa: ARG002 - the port's signature
        """Not in the pool."""
        raise UnsupportedTask("a pool holds no verdicts but its verifier's", parameter="verifier")

    def spend(self, tokens: int, flops: int) -> bool:  # noqa: ARG002 - the pool tells FLOPs of verdicts
        """Book a verification."""
        self.verified += flops
        return True

    def using(self, adapter: str) -> Self:  # noqa: ARG002 - the port's signature
        """Whoever answers, it is recorded."""
        return self


class Recorded(Verifier):
    """The scores that the pool's verifier gave, at what they cost on average."""

    name = JUDGE

    def __init__(self, question: Question, model: Replay) -> None:
        self._question = question
        self._model = model

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Any) -> list[float]:  # noqa: ARG002 - a verifier's signature
        """As recorded; raises `UnsupportedTask` where nobody was asked."""
        drawn = self._question.drawn
        scores = [self._model.sample_of(candidate.index).score for candidate in candidates]
        self._model.spend(0, drawn.verify_flops * len(candidates) // max(len(drawn.samples), 1))
        if any(score is None for score in scores):
            raise UnsupportedTask("this pool was drawn without a verifier", parameter="verifier")
        return [score for score in scores if score is not None]


def _candidate(sample: Sample) -> Candidate:
    pairs = zip(sample.token_ids, sample.logprobs, strict=True)
    logprobs = tuple(TokenLogprob("", token_id, logprob) for token_id, logprob in pairs)
    return Candidate(0, sample.text, sample.token_ids, sample.finish_reason, sample.stop_reason, logprobs)
