"""Votes over sampled answers, and stops as soon as more samples would not change the winner.

The vote is self-consistency (Wang et al. 2023, arXiv 2203.11171). The stopping rule is Adaptive-Consistency's
(`strategies.voting.stopping`). It is applied after each candidate in the order of their indices, so the outcome is the same as if
candidates were drawn one by one, though they are drawn together.

Votes may be weighted by confidence: CISC (Taubenfeld et al. 2025, arXiv 2502.06233) weighs a vote with exp(c_i / T), normalised over the
samples of the question. A weighted vote stops when the plain counts are settled and their leader is the weighted leader too, because the
posterior is one of counts.

A filter excludes candidates that write false equations from the vote. Excluded candidates settle nothing, so questions on which the model
miscalculates get more samples.

Confidence may also be that of the least confident groups of tokens (DeepConf, `strategies.voting.confidence`). It weighs a vote as it is.
`keep` takes the vote from the least confident candidates. `cut` ends candidates while they are written: the first ones,
the warm-up, run to their ends, and set the threshold for all others. Whether one is cut depends on its own tokens and the warm-up's alone.
It is decided again once the candidate is there, because the engine may have ended it before it could be halted.
"""

from strategies.checking.sample_vote import SampleVote, SelfConsistencyParams
from strategies.core.checks import check_choices, check_comparable
from strategies.core.ports import Emit, Model
from strategies.core.results import Progress, Result
from strategies.core.strategy import Forecast, Strategy, in_order
from strategies.core.values import Draw, ScoredCandidate, Step, Task
from strategies.voting.selection import candidate_node
from strategies.voting.stopping import wave_sizes


class SelfConsistency(Strategy[SelfConsistencyParams]):
    """Draws up to n candidates and returns the answer with the most votes."""

    name = "self_consistency"
    summary = "Votes over up to n sampled answers and stops when the vote is settled."
    comparison = "is the vote; `filter` puts it ahead of a plain one"
    Params = SelfConsistencyParams

    def width(self, num_choices: int) -> int:
        """Return n, whatever the schedule."""
        return max(self.params.n, num_choices)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of n answers, as if the vote were never settled earlier."""
        return Forecast(self.params.n, self.params.n * answer_tokens, len(self._wave_sizes()))

    def _wave_sizes(self) -> list[int]:
        """Return how many candidates are drawn together each time. With a cut, the first wave is the warm-up."""
        n, warm_up = self.params.n, min(self.params.warm_up, self.params.n)
        if self.params.schedule == "waves":
            return wave_sizes(n) if self.params.cut is None else wave_sizes(n, warm_up)
        return [n] if self.params.cut is None or warm_up == n else [warm_up, n - warm_up]

    def check(self, task: Task) -> None:
        """Refuse answers that cannot be compared, and more choices than candidates."""
        check_choices(self.name, task, self.params.n, "n")
        check_comparable(self.name, task)

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw by the schedule, count in the order of indices, and stop when the vote is settled."""
        vote = SampleVote(self.params, self.context, task, model)
        for size in self._wave_sizes():
            draw = Draw(
                task.prefix,
                size,
                first_index=len(vote.drawn),
                num_logprobs=vote.num_logprobs,
                step=Step(watch=vote.watch()),
                ends_loops=task.ends_loops,
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
