"""Votes over sampled answers, and stops as soon as more samples would not change the winner.

The stopping rule is Adaptive-Consistency's (`strategies.voting.stopping`), applied after every candidate in index order: the outcome
is that of drawing one by one, though they are drawn together. With confidence weights (CISC, Taubenfeld et al. 2025:
w_i = exp(c_i/T), normalised over the samples of the question) the vote is weighted; it stops when the plain counts are settled
and the weighted leader is their leader too, since the posterior is one of counts. A veto takes the vote from candidates that write false
equations: they settle nothing, so that questions on which the model miscalculates are asked more often, and the others are not.
"""

import asyncio
import math
from typing import Annotated, Literal

from pydantic import Field

from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Progress, Result
from strategies.core.strategy import Forecast, Strategy, check_choices, ended, in_order
from strategies.core.values import AnswerKind, Candidate, Draw, ScoredCandidate, StopReason, Task
from strategies.core.verifier import Verifier, VerifierChoice
from strategies.verifiers.equations import is_refuted
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.self_certainty import SelfCertainty
from strategies.voting.count import AnswerGroup, VoteCount, mean_logprob
from strategies.voting.selection import leaf
from strategies.voting.stopping import is_settled, waves


class SelfConsistencyParams(Params):
    """Parameters of `self_consistency`."""

    n: Annotated[int, Field(ge=1, le=256, description="the most candidates to draw")] = 16
    schedule: Annotated[
        Literal["parallel", "waves"],
        Field(description="`parallel`: all at once, the rest cancelled when settled (fast); `waves`: growing waves (cheap)"),
    ] = "parallel"
    confidence: Annotated[
        float,
        Field(gt=0.5, le=1, description="posterior at which to stop; 1: only when nobody can catch up"),
    ] = 0.95
    weights: Annotated[Literal["none", "likelihood", "self_certainty"], Field(description="what a vote weighs (CISC)")] = "none"
    weight_temperature: Annotated[
        float, Field(gt=0, le=100, description="CISC's T: the higher, the nearer to a plain vote")
    ] = 0.2
    veto: Annotated[
        Literal["none", "equations"],
        Field(description="who has no vote unless nobody else has: `equations`: candidates that write a false one"),
    ] = "none"


class SelfConsistency(Strategy[SelfConsistencyParams]):
    """See the module."""

    name = "self_consistency"
    summary = "Votes over up to n sampled answers and stops when the vote is settled."
    Params = SelfConsistencyParams

    def width(self, num_choices: int) -> int:
        """All of them, whatever the schedule."""
        return max(self.params.n, num_choices)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - as all strategies
        """N answers, were the vote never settled before."""
        num_rounds = 1 if self.params.schedule == "parallel" else len(waves(self.params.n))
        return Forecast(self.params.n, self.params.n * answer_tokens, num_rounds)

    def check(self, task: Task) -> None:
        """Refuse what cannot be voted on, and more choices than candidates."""
        check_choices(self.name, task, self.params.n, "n")
        if task.kind is AnswerKind.OPEN:
            message = (
                'self_consistency needs answers that can be compared: set "answer" to their kind (math, choice, json, text)'
            )
            raise UnsupportedTask(message, parameter="answer")

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw by the schedule, count in index order, stop when settled."""
        poll = _Poll(self, task, model)
        sizes = [self.params.n] if self.params.schedule == "parallel" else waves(self.params.n)
        for size in sizes:
            draw = Draw(task.prefix, size, first_index=len(poll.drawn), num_logprobs=poll.num_logprobs)
            async with model.sample(draw) as samples:
                async for candidate in in_order(samples, len(poll.drawn)):
                    await poll.count(candidate)
                    emit(Progress(poll.line(), (leaf(ScoredCandidate(candidate, poll.answer(candidate))),)))
                    if poll.is_settled:
                        break
            if poll.is_settled or model.stopped is not None:
                break
        return await poll.result()


WEIGHTS = {verifier.name: VerifierChoice(verifier, Params()) for verifier in (Likelihood, SelfCertainty)}
"""What a vote may weigh."""


class _Poll:
    """One vote in progress."""

    def __init__(self, strategy: SelfConsistency, task: Task, model: Model) -> None:
        self._params = strategy.params
        self._task = task
        self._model = model
        self._ballot = VoteCount(task, strategy.context.equivalence)
        weights = strategy.params.weights
        self._verifier: Verifier | None = None if weights == "none" else WEIGHTS[weights].build(strategy.context)
        needs = (0, task.num_logprobs, self._verifier.num_logprobs if self._verifier else None)
        self.num_logprobs = max(need for need in needs if need is not None)
        self.drawn: list[Candidate] = []
        self._confidence: dict[int, float] = {}
        self.is_settled = False

    async def count(self, candidate: Candidate) -> None:
        self.drawn.append(candidate)
        is_vetoed = self._params.veto == "equations" and await asyncio.to_thread(is_refuted, candidate.text)
        await self._ballot.add(candidate, is_vetoed=is_vetoed)
        if self._verifier is not None:
            [self._confidence[candidate.index]] = await self._verifier.score(self._task, [candidate], self._model)
        remaining = self._params.n - len(self.drawn)
        self.is_settled = is_settled(*self._ballot.counts(), remaining, self._params.confidence) and self._agrees()

    def _weights(self) -> dict[int, float] | None:
        """CISC's softmax over the confidences, without its denominator, which is the same for all."""
        if self._verifier is None:
            return None
        highest = max(self._confidence.values(), default=0.0)
        return {
            index: math.exp((confidence - highest) / self._params.weight_temperature)
            for index, confidence in self._confidence.items()
        }

    def _ranked(self) -> list[AnswerGroup]:
        return self._ballot.ranked(self._weights())

    def _agrees(self) -> bool:
        return self._verifier is None or len(self._ranked()[0].members) == self._ballot.counts()[0]

    def answer(self, candidate: Candidate) -> str | None:
        return self._ballot.answers[candidate.index]

    def line(self) -> str:
        last = self.drawn[-1]
        text = f"Candidate {len(self.drawn)} of {self._params.n}: {self._ballot.answers[last.index] or 'no answer'}"
        if not self._ballot.groups:
            return text
        leader = self._ranked()[0]
        return f"{text} (leading: {leader.answer}, {len(leader.members)} of {len(self.drawn)})"

    async def result(self) -> Result:
        await self._ballot.count_set_aside()
        ranked = self._ranked()
        votes = sum(len(group.members) for group in ranked)
        shares = {member.index: len(group.members) / votes for group in ranked for member in group.members}
        scored = {c.index: ScoredCandidate(c, self._ballot.answers[c.index], shares.get(c.index)) for c in self.drawn}
        if ranked:
            chosen = tuple(scored[group.best.index] for group in ranked)
        else:  # nothing can be read from any of them: the most likely one, whole rather than cut
            chosen = tuple(
                sorted(scored.values(), key=lambda s: (s.candidate.is_complete, mean_logprob(s.candidate)), reverse=True)
            )
        stop = StopReason.SETTLED if self.is_settled and len(self.drawn) < self._params.n else ended(self._model)
        return Result(chosen[: self._task.num_choices], tuple(scored.values()), stop)
