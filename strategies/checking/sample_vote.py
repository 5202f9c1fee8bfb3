"""The vote of samples: what `self_consistency` counts, and when it is settled. Its rules are told in `strategies.self_consistency`."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from strategies.core.parameters import EquationFilter, NumAnswers, Params
from strategies.core.ports import Model
from strategies.core.results import Result
from strategies.core.strategy import ended
from strategies.core.values import Candidate, ScoredCandidate, StopReason, Task, Watch
from strategies.core.verifier import StrategyContext, VerifierChoice
from strategies.verifiers.equations import is_refuted
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.self_certainty import SelfCertainty
from strategies.voting.confidence import GroupConfidence, Measure, percentile
from strategies.voting.count import AnswerGroup, VoteCount, mean_logprob
from strategies.voting.stopping import is_settled
from strategies.voting.weighing import Weighing

WEIGHTS = {verifier.name: VerifierChoice(verifier, Params()) for verifier in (Likelihood, SelfCertainty)}
"""The verifiers whose scores may weigh a vote."""

MEASURES: tuple[Measure, ...] = get_args(Measure)


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
    weights: Annotated[
        Literal["none", "likelihood", "self_certainty", Measure],
        Field(
            description="what a vote weighs: by CISC `likelihood` or `self_certainty`; by DeepConf the confidence of the least "
            "confident group of tokens (`lowest_group`), of the lowest tenth of the groups (`bottom_groups`), or of the last one (`tail`)"
        ),
    ] = "none"
    weight_temperature: Annotated[
        float,
        Field(
            gt=0, le=100, description="CISC's T, for `likelihood` and `self_certainty`: the higher, the nearer to a plain vote"
        ),
    ] = 0.2
    keep: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="share of the answers that vote, the most confident ones, by `weights` or else `lowest_group`",
        ),
    ] = 1.0
    cut: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="ends an answer once a group of its tokens is less confident than the lowest groups of this share of the "
            "warm-up's answers: 0.1 cuts few, 0.9 most; it has no vote; null cuts none",
        ),
    ] = None
    warm_up: Annotated[
        int, Field(ge=1, le=256, description="answers that are drawn before any is cut, or `consensus` is asked for")
    ] = 4
    consensus: Annotated[
        float | None,
        Field(
            gt=0.5,
            le=1,
            description="also stops once the leader has this share of the weight of all votes (DeepConf has 0.95); null: only by "
            "`confidence`",
        ),
    ] = None
    group_tokens: Annotated[
        int,
        Field(
            ge=1,
            le=4096,
            description="tokens of a group: a window that slides over the answer; DeepConf has 2048, for long ones",
        ),
    ] = 32
    alternatives: Annotated[
        int, Field(ge=1, le=20, description="most probable tokens that the confidence of a token is the mean of")
    ] = 20
    filter: Annotated[
        EquationFilter,
        Field(
            description="`equations`: candidates whose answer has a false equation have no vote, unless no other candidate has one; "
            "`all_equations`: the same for their thinking too"
        ),
    ] = "none"

    @model_validator(mode="before")
    @classmethod
    def _accept_veto(cls, values: Any) -> Any:
        """Accept `veto`, the former name of `filter`, for one more release."""
        if isinstance(values, dict) and "veto" in values and "filter" not in values:
            return {"filter" if name == "veto" else name: value for name, value in values.items()}
        return values


def _weighing(params: SelfConsistencyParams, context: StrategyContext) -> Weighing:
    measure: Measure | None = next((one for one in MEASURES if one == params.weights), None)
    if params.weights == "none" and params.keep < 1:
        measure = "lowest_group"
    return Weighing(
        groups=GroupConfidence(params.alternatives, params.group_tokens),
        measure=measure,
        verifier=WEIGHTS[params.weights].build(context) if params.weights in WEIGHTS else None,
        is_weighted=params.weights != "none",
        temperature=params.weight_temperature,
        keep=params.keep,
    )


class SampleVote:
    """The candidates drawn so far, their votes, and whether the vote is settled.

    Args:
        params: of the vote.
        context: of the strategy.
        task: that the candidates answer.
        model: draws them.

    """

    def __init__(self, params: SelfConsistencyParams, context: StrategyContext, task: Task, model: Model) -> None:
        self._params = params
        self._task = task
        self._model = model
        self._votes = VoteCount(task, context.equivalence)
        self._weighing = _weighing(params, context)
        needs = (0, task.num_logprobs, self._weighing.num_logprobs, params.alternatives if params.cut is not None else 0)
        self.num_logprobs = max(need for need in needs if need is not None)
        self.drawn: list[Candidate] = []
        self._watch: Callable[[], Watch] | None = None
        self.is_settled = False

    def watch(self) -> Callable[[], Watch] | None:
        """Return what cuts the candidates of the next wave; None in the warm-up, and if no answer of the warm-up is whole."""
        if self._params.cut is not None and self._watch is None:
            groups = self._weighing.groups
            lowest = [groups.of(one, "lowest_group") for one in self.drawn if one.is_complete]
            self._watch = groups.below(percentile(lowest, self._params.cut)) if lowest else None
        return self._watch

    async def count(self, candidate: Candidate) -> None:
        """Count one more candidate."""
        if self._watch is not None and await asyncio.to_thread(self._watch(), candidate.logprobs):
            candidate = replace(candidate, finish_reason="cut")
        self.drawn.append(candidate)
        await self._votes.add(candidate, is_filtered=await self._is_filtered(candidate))
        await self._weighing.note(self._task, candidate, self._model)
        remaining = self._params.n - len(self.drawn)
        is_certain = is_settled(*self._votes.counts(), remaining, self._params.confidence) and self._has_one_leader()
        self.is_settled = is_certain or self._has_consensus()

    async def _is_filtered(self, candidate: Candidate) -> bool:
        if self._params.filter == "none":
            return False
        text = self._task.read(candidate) if self._params.filter == "equations" else candidate.text
        # in a thread: a long answer may take a while to check, and other requests must not wait for it
        return await asyncio.to_thread(is_refuted, text)

    def _ranked(self) -> list[AnswerGroup]:
        return self._votes.ranked(self._weighing.of(self._votes))

    def _has_one_leader(self) -> bool:
        """Return whether the weighted vote has the same leader as the plain counts."""
        leader = self._ranked()[0].answer
        return any(group.answer == leader and len(group.members) == self._votes.counts()[0] for group in self._votes.groups)

    def _has_consensus(self) -> bool:
        """Return whether the leader has the share of the weight that ends the vote."""
        share = self._params.consensus
        if share is None or len(self.drawn) < self._params.warm_up:
            return False
        return self._votes.leading_share(self._weighing.of(self._votes)) >= share

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
        answers = {member.index: group.answer for group in ranked for member in group.members}
        scored = {c.index: ScoredCandidate(c, answers.get(c.index), shares.get(c.index)) for c in self.drawn}
        if ranked:
            chosen = tuple(scored[group.best.index] for group in ranked)
        else:  # no answer can be read from any candidate: the most likely one, and a whole one before one that was cut
            chosen = tuple(
                sorted(scored.values(), key=lambda s: (s.candidate.completeness, mean_logprob(s.candidate)), reverse=True)
            )
        stop = StopReason.SETTLED if self.is_settled and len(self.drawn) < self._params.n else ended(self._model)
        return Result(chosen[: self._task.num_choices], tuple(scored.values()), stop)
