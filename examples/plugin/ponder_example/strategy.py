"""Draws answers in waves, and stops at the first wave with an answer that a verifier finds good enough."""

from typing import Annotated

from pydantic import Field

import ponder


class FirstGoodParams(ponder.Params):
    """What a request may set, with its bounds. Their descriptions are shown in the documentation and the playground."""

    verifier: Annotated[ponder.AnyVerifier, Field(description="scores the answers")]
    n: Annotated[int, Field(ge=1, le=64, description="the most answers to draw")] = 8
    wave: Annotated[int, Field(ge=1, le=64, description="answers that are drawn together")] = 2
    threshold: Annotated[float, Field(ge=0, le=1, description="the score that is good enough")] = 0.8


class FirstGood(ponder.Strategy[FirstGoodParams]):
    """See the module."""

    name = "first_good"
    summary = "Draws answers in waves until one has a score of at least `threshold`."
    Params = FirstGoodParams

    def width(self, num_choices: int) -> int:
        """Return the most branches that run at the same time."""
        return max(self.params.wave, num_choices)

    def check(self, task: ponder.Task) -> None:
        """Refuse what the parameters cannot honour, before anything is generated."""
        ponder.check_choices(self.name, task, self.params.n, "n")

    def forecast(self, task: ponder.Task, answer_tokens: int) -> ponder.Forecast:
        """Return what it takes if no answer is good enough: all of them, wave after wave."""
        return ponder.Forecast(self.params.n, self.params.n * answer_tokens, -(-self.params.n // self.params.wave))

    async def __call__(self, task: ponder.Task, model: ponder.Model, emit: ponder.Emit) -> ponder.Result:
        """Return the best answers, best first."""
        scorer = ponder.Scorer(ponder.build_for(self.params.verifier, task, self.context), task, model)
        drawn: list[ponder.ScoredCandidate] = []
        best, stop = 0.0, ponder.StopReason.COMPLETED
        while len(drawn) < self.params.n and best < self.params.threshold and model.stopped is None:
            size = min(self.width(task.num_choices), self.params.n - len(drawn))
            draw = ponder.Draw(task.prefix, size, first_index=len(drawn), num_logprobs=scorer.num_logprobs)
            async with model.sample(draw) as samples:  # one wave: the engine computes its branches together
                wave = [candidate async for candidate in ponder.in_order(samples, len(drawn))]
            if not wave:  # neither the budget nor the context had room for it
                break
            scores = await scorer.score(wave)
            drawn += [ponder.ScoredCandidate(one, score=score) for one, score in zip(wave, scores, strict=True)]
            best = max(best, *scores)
            emit(ponder.Progress(f"{len(drawn)} of {self.params.n} answers, the best scores {best:.2f}"))
        if best >= self.params.threshold and len(drawn) < self.params.n:
            stop = ponder.StopReason.SETTLED
        ranked = sorted(drawn, key=lambda one: one.score or 0.0, reverse=True)
        return ponder.Result(
            tuple(ranked[: task.num_choices]), tuple(drawn), ponder.ended(model, stop), notes=tuple(scorer.notes)
        )
