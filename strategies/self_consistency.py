"""Votes over sampled answers, and stops as soon as more samples would not change the winner.

The vote is self-consistency (Wang et al. 2023, arXiv 2203.11171). The stopping rule is Adaptive-Consistency's
(`strategies.voting.stopping`). It is applied after each candidate in the order of their indices, so the outcome is the same as if
candidates were drawn one by one, though they are drawn together.

Votes may be weighted by confidence: CISC (Taubenfeld et al. 2025, arXiv 2502.06233) weighs a vote with exp(c_i / T), normalised over the
samples of the question. A weighted vote stops when the plain counts are settled and their leader is the weighted leader too, because the
posterior is one of counts.

A filter excludes candidates that write false equations from the vote. Excluded candidates settle nothing, so questions on which the model
miscalculates get more samples.
"""

import asyncio
import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from strategies.core.checks import check_choices, check_comparable
from strategies.core.parameters import EquationCheck, NumAnswers, Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Progress, Result
from strategies.core.strategy import Forecast, Strategy, ended, in_order
from strategies.core.values import Candidate, Draw, ScoredCandidate, StopReason, Task
from strategies.core.verifier import Verifier, VerifierChoice
from strategies.verifiers.equations import is_refuted
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.self_certainty import SelfCertainty
from strategies.voting.count import AnswerGroup, VoteCount, mean_logprob
from strategies.voting.selection import candidate_node
from strategies.voting.stopping import is_settled, wave_sizes

WEIGHTS = {verifier.name: VerifierChoice(verifier, Params()) for verifier in (Likelihood, SelfCertainty)}
"""The verifiers whose scores may weigh a vote."""


class SelfConsistencyParams(Params):
    """Parameters of `self_consistency`."""

    n: Annotated[NumAnswers, Field(description="the most candidates to draw")] = 16
    schedule: Annotated[
        Literal["parallel", "waves"],
        Field(description="`parallel`: all at once, the rest cancelled when settled (fast); `waves`: growing waves (cheap)"),
    ] = "parallel"
    confidence: Annotated[
        float,
        Field(gt=0.5, le=1, description="posterior at which to stop; 1: only when no answer can catch up with the leader"),
    ] = 0.95
    weights: Annotated[Literal["none", "likelihood", "self_certainty"], Field(description="what a vote weighs (CISC)")] = "none"
    weight_temperature: Annotated[
        float, Field(gt=0, le=100, description="CISC's T: the higher, the nearer to a plain vote")
    ] = 0.2
    filter: Annotated[
        EquationCheck,
        Field(
            description="`equations`: candidates that write a false equation have no vote, unless no other candidate has one"
        ),
    ] = "none"

    @model_validator(mode="before")
    @classmethod
    def _accept_veto(cls, values: Any) -> Any:
        """Accept `veto`, the former name of `filter`, for one more release."""
        if isinstance(values, dict) and "veto" in values and "filter" not in values:
            return {"filter" if name == "veto" else name: value for name, value in values.items()}
        return values


class SelfConsistency(Strategy[SelfConsistencyParams]):
    """Draws up to n candidates and returns the answer with the most votes."""

    name = "self_consistency"
    summary = "Votes over up to n sampled answers and stops when the vote is settled."
    Params = SelfConsistencyParams

    def width(self, num_choices: int) -> int:
        """Return n, whatever the schedule."""
        return max(self.params.n, num_choices)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of n answers, as if the vote were never settled earlier."""
        num_rounds = 1 if self.params.schedule == "parallel" else len(wave_sizes(self.params.n))
        return Forecast(self.params.n, self.params.n * answer_tokens, num_rounds)

    def check(self, task: Task) -> None:
        """Refuse answers that cannot be compared, and more choices than candidates."""
        check_choices(self.name, task, self.params.n, "n")
        check_comparable(self.name, task)

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw by the schedule, count in the order of indices, and stop when the vote is settled."""
        vote = _RunningVote(self, task, model)
        sizes = [self.params.n] if self.params.schedule == "parallel" else wave_sizes(self.params.n)
        for size in sizes:
            draw = Draw(
                task.prefix, size, first_index=len(vote.drawn), num_logprobs=vote.num_logprobs, ends_loops=task.ends_loops
            )
            async with model.sample(draw) as samples:
                async for candidate in in_order(samples, len(vote.drawn)):
                    await vote.count(candidate)
                    node = candidate_node(ScoredCandidate(candidate, vote.answer(candidate)))
                    emit(Progress(vote.line(), (node,), vote.leader))
                    if vote.is_settled:
                        break
            if vote.is_settled or model.stopped is not None:
                break
        return await vote.result()


class _RunningVote:
    """The candidates drawn so far, their votes, and whether the vote is settled."""

    def __init__(self, strategy: SelfConsistency, task: Task, model: Model) -> None:
        self._params = strategy.params
        self._task = task
        self._model = model
        self._votes = VoteCount(task, strategy.context.equivalence)
        weights = strategy.params.weights
        self._verifier: Verifier | None = None if weights == "none" else WEIGHTS[weights].build(strategy.context)
        needs = (0, task.num_logprobs, self._verifier.num_logprobs if self._verifier else None)
        self.num_logprobs = max(need for need in needs if need is not None)
        self.drawn: list[Candidate] = []
        self._confidence: dict[int, float] = {}
        self.is_settled = False

    async def count(self, candidate: Candidate) -> None:
        """Count one more candidate."""
        self.drawn.append(candidate)
        # in a thread: a long answer may take a while to check, and other requests must not wait for it
        is_filtered = self._params.filter == "equations" and await asyncio.to_thread(is_refuted, self._task.read(candidate))
        await self._votes.add(candidate, is_filtered=is_filtered)
        if self._verifier is not None:
            [self._confidence[candidate.index]] = await self._verifier.score(self._task, [candidate], self._model)
        remaining = self._params.n - len(self.drawn)
        self.is_settled = is_settled(*self._votes.counts(), remaining, self._params.confidence) and self._has_one_leader()

    def _weights(self) -> dict[int, float] | None:
        """Return CISC's weight of each candidate, without the softmax's denominator, which is the same for all."""
        if self._verifier is None:
            return None
        # the highest is subtracted so that `exp` does not overflow at a low temperature
        highest = max(self._confidence.values(), default=0.0)
        return {
            index: math.exp((confidence - highest) / self._params.weight_temperature)
            for index, confidence in self._confidence.items()
        }

    def _ranked(self) -> list[AnswerGroup]:
        return self._votes.ranked(self._weights())

    def _has_one_leader(self) -> bool:
        """Return whether the weighted vote has the same leader as the plain counts."""
        return self._verifier is None or len(self._ranked()[0].members) == self._votes.counts()[0]

    def answer(self, candidate: Candidate) -> str | None:
        """Return the answer that a candidate voted for, None if it had no vote."""
        return self._votes.answers[candidate.index]

    @property
    def leader(self) -> Candidate | None:
        """The candidate that would be returned now; None where no answer can be read yet."""
        return next((group.best for group in self._ranked()), None)

    def line(self) -> str:
        """Return one line about the vote, for callers who watch it."""
        last = self.drawn[-1]
        text = f"Candidate {len(self.drawn)} of {self._params.n}: {self._votes.answers[last.index] or 'no answer'}"
        if not self._votes.groups:
            return text
        leader = self._ranked()[0]
        return f"{text} (leading: {leader.answer}, {len(leader.members)} of {len(self.drawn)})"

    async def result(self) -> Result:
        """Return the answers by votes; the score of a candidate is its answer's share of the votes."""
        await self._votes.count_filtered()
        ranked = self._ranked()
        num_votes = sum(len(group.members) for group in ranked)
        shares = {member.index: len(group.members) / num_votes for group in ranked for member in group.members}
        scored = {c.index: ScoredCandidate(c, self._votes.answers[c.index], shares.get(c.index)) for c in self.drawn}
        if ranked:
            chosen = tuple(scored[group.best.index] for group in ranked)
        else:  # no answer can be read from any candidate: the most likely one, and a whole one before one that was cut
            chosen = tuple(
                sorted(scored.values(), key=lambda s: (s.candidate.completeness, mean_logprob(s.candidate)), reverse=True)
            )
        stop = StopReason.SETTLED if self.is_settled and len(self.drawn) < self._params.n else ended(self._model)
        return Result(chosen[: self._task.num_choices], tuple(scored.values()), stop)
