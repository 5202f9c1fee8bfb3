"""Runs strategies on the samples of a pool, with their own code: a `Model` that hands out what was drawn, in any order.

It charges what a server would have: each sample's own tokens, and the prompt once. Where a strategy leaves a draw, the others
have as many tokens as the longest answer that it has waited for, and are charged with them.
"""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

from app.lab.calibration.pool import Mended, Piece, Sample
from app.lab.calibration.questions import Question, Replayed
from strategies.core.context import StrategyContext
from strategies.core.errors import UnsupportedTask
from strategies.core.ports import ignore_events
from strategies.core.values import Candidate, Draw, StopReason, Task, VerifierPrompt
from strategies.core.verifier import Verifier
from strategies.registry import STRATEGIES

JUDGE = "recorded"
"""Names the verifier whose scores are in the pool, as a reward model."""

MENDING = ("adaptive", "backtracking")
"""Strategies that go on with answers; their indices tell which."""


async def replay(
    question: Question, strategy: str, params: dict[str, Any], context: StrategyContext, seed: int = 0
) -> Replayed:
    """Run a strategy of the registry on the samples in one of their orders."""
    spec = STRATEGIES[strategy]
    values = spec.Params.model_validate(params)
    model = Replay(question, seed, chains=getattr(values, "n", 1) if spec.name in MENDING else None)
    context = replace(context, reward_models={JUDGE: Recorded(question, model)})
    result = await spec(values, context)(question.task, model, ignore_events)
    is_right = bool(result.chosen) and model.is_right(result.chosen[0].candidate.index)
    flops = model.flops + model.verified
    return Replayed(is_right, flops, model.verified, model.tokens, model.num_drawn, result.stop_reason)


class Replay:
    """`strategies.core.ports.Model` over the samples of one question, in one of their orders.

    Args:
        chains: of a strategy that mends answers, how many; None for others.

    Attributes:
        flops: of generation, as far as it came; `verified`: booked by verifiers.
        tokens: decoded.

    """

    inquiry: VerifierPrompt | None = None
    deadline: float | None = None
    stopped: StopReason | None = None

    def __init__(self, question: Question, seed: int, chains: int | None = None) -> None:
        how = question.how
        self._question = question
        self._chains = chains
        # only some have their later attempts
        self._left = question.order(seed, how.samples if chains is None or how.attempts == 1 else how.mended)
        self._pieces: dict[int, Piece] = {}
        self._cut: set[int] = set()
        self._architecture = how.flops
        self.flops = 0
        self.verified = 0
        self.tokens = 0
        self.num_drawn = 0

    def is_right(self, index: int) -> bool:
        """Whether the answer that ends with that candidate is."""
        return self._pieces[index].is_right and index not in self._cut

    def score_of(self, index: int) -> float | None:
        """The verifier's."""
        piece = self._pieces[index]
        return piece.score if isinstance(piece, Sample) else None

    @asynccontextmanager
    async def sample(self, draw: Draw) -> AsyncIterator[AsyncIterator[Candidate]]:
        """The next `n` of the pool, or what was written after one; raises `UnsupportedTask` for what was not drawn."""
        first_index, until = draw.first_index, draw.step.until
        if draw.step.separators or draw.step.max_tokens or draw.max_tokens is not None or draw.num_logprobs:
            raise UnsupportedTask("a pool holds whole answers, with no log-probabilities but theirs", parameter="strategy")
        is_later = first_index >= (self._chains or math.inf)
        pieces = self._later(draw.prefix, first_index) if is_later else self._first(draw)
        drawn = [self._deliver(piece, index, until) for index, piece in enumerate(pieces, first_index)]
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
                self._charge(candidate.index, len(draw.prefix), min(len(candidate.token_ids), reached))

    def _first(self, draw: Draw) -> list[Piece]:
        n = draw.n
        if draw.prefix != self._question.drawn.prefix:
            raise UnsupportedTask("a pool holds whole answers", parameter="strategy")
        if draw.temperature == 0:
            return [self._question.drawn.greedy] * n
        if n > len(self._left):
            raise UnsupportedTask(f"the pool has {len(self._question.drawn.samples)} samples", parameter="n")
        places, self._left = self._left[:n], self._left[n:]
        return [self._question.sample(place) for place in places]

    def _later(self, prefix: Sequence[int], index: int) -> list[Piece]:
        assert self._chains is not None
        attempt, number = divmod(index, self._chains)
        sample = self._pieces[number]
        later = sample.later if isinstance(sample, Sample) else ()
        if attempt == len(later) + 1 and attempt < self._question.how.attempts:
            return []  # it had no room for more
        if attempt > len(later) or later[attempt - 1].said != len(prefix) - len(self._question.drawn.prefix):
            raise UnsupportedTask("the pool does not have this attempt, or other lines were false then", parameter="attempts")
        return [later[attempt - 1]]

    def _deliver(self, piece: Piece, index: int, until: Callable[[str], bool] | None) -> Candidate:
        self._pieces[index] = piece
        whole = self._question.candidate(piece, index)
        if until is None:
            return whole
        length = 0
        for number, token in enumerate(piece.lengths[:-1], 1):
            length += token
            if until(piece.text[:length]):
                self._cut.add(index)
                return replace(
                    whole,
                    text=piece.text[:length],
                    token_ids=whole.token_ids[:number],
                    logprobs=whole.logprobs[:number],
                    finish_reason="step",
                )
        return whole

    def _charge(self, index: int, prefix: int, tokens: int) -> None:
        piece = self._pieces[index]
        cached = piece.cached if isinstance(piece, Mended) else self._question.cached if self.num_drawn else 0
        self.flops += sum(self._architecture.branch_cost(prefix, cached, tokens))
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
        scores = [self._model.score_of(candidate.index) for candidate in candidates]
        self._model.spend(0, drawn.verify_flops * len(candidates) // max(len(drawn.samples), 1))
        if any(score is None for score in scores):
            raise UnsupportedTask("this pool was drawn without a verifier", parameter="verifier")
        return [score for score in scores if score is not None]
