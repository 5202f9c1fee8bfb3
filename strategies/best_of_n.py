"""Best-of-n: draws n answers at once, and a verifier picks the best."""

from typing import Annotated

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.parameters import NumAnswers, Params, Select
from strategies.core.ports import Emit, Model
from strategies.core.results import Progress, Result
from strategies.core.strategy import Forecast, Strategy, ended, in_order
from strategies.core.values import Candidate, Draw, ScoredCandidate, StopReason, Task
from strategies.search.scorer import Scorer
from strategies.verifiers import AnswerVerifier, build_for, num_calls
from strategies.voting.selection import candidate_node, choose, opening_words


class BestOfNParams(Params):
    """Parameters of `best_of_n`."""

    n: Annotated[NumAnswers, Field(description="candidates to draw, all at once")] = 8
    verifier: AnswerVerifier = None
    select: Select = "score"


class BestOfN(Strategy[BestOfNParams]):
    """Draws n candidates, scores them together, and returns the best."""

    name = "best_of_n"
    summary = "Draws n candidates at once and lets a verifier pick the best."
    Params = BestOfNParams

    def width(self, num_choices: int) -> int:
        """Return n: all candidates are drawn at once."""
        return max(self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than candidates, and a verifier that cannot score answers to the task."""
        check_choices(self.name, task, self.params.n, "n")
        build_for(self.params.verifier, task, self.context)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of n answers that are scored together."""
        n = self.params.n
        return Forecast(n, n * answer_tokens, verifier_calls=num_calls(self.params.verifier, n))

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw all, score all, and return the best distinct ones in order.

        With an exact verifier each candidate is scored as soon as those before it are there, and the first proof ends the search.
        """
        verifier = build_for(self.params.verifier, task, self.context)
        scorer = Scorer(verifier, task, model)
        drawn: list[Candidate] = []
        scores: dict[int, float] = {}
        is_proven = False
        draw = Draw(task.prefix, self.params.n, num_logprobs=scorer.num_logprobs, ends_loops=task.ends_loops)
        async with model.sample(draw) as samples:
            async for candidate in in_order(samples) if verifier.is_exact else samples:
                drawn.append(candidate)
                words = opening_words(task.read(candidate))
                node = candidate_node(ScoredCandidate(candidate))
                emit(Progress(f"Candidate {len(drawn)} of {self.params.n}: {words}", (node,)))
                if verifier.is_exact:
                    [scores[candidate.index]] = await scorer.score([candidate])
                    if is_proven := scorer.has_proven(candidate, scores[candidate.index]):
                        break
        drawn.sort(key=lambda candidate: candidate.index)
        if not verifier.is_exact:
            scores = dict(zip((one.index for one in drawn), await scorer.score(drawn), strict=True))
        chosen, scored = await choose(task, drawn, scores, self.context.equivalence, self.params.select)
        stop = StopReason.VERIFIED if is_proven else ended(model)
        return Result(chosen, scored, stop, notes=tuple(scorer.notes))
