"""Best-of-n: draws n answers at once, and a verifier picks the best. The worst may be rejected while they are written."""

from typing import Annotated

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import NumAnswers, Params, Select
from strategies.core.ports import Emit, Model
from strategies.core.results import Progress, Result
from strategies.core.strategy import Forecast, Strategy, ended, in_order
from strategies.core.values import Candidate, Draw, ScoredCandidate, Step, StopReason, Task
from strategies.core.verifier import Verifier, VerifierChoice
from strategies.search.rejection import Rejection, grow_rejecting
from strategies.search.scorer import Scorer
from strategies.search.tree import Steps, Tree
from strategies.verifiers import LIKELIHOOD, AnyVerifier, build_for, num_calls
from strategies.voting.selection import candidate_node, choose, opening_words


class BestOfNParams(Params):
    """Parameters of `best_of_n`."""

    n: Annotated[NumAnswers, Field(description="candidates to draw, all at once")] = 8
    verifier: Annotated[
        AnyVerifier | None,
        Field(
            description="what picks among all answers (see the verifiers); by default `majority` where they can be compared, "
            "else `likelihood`; with `reject` always `likelihood`"
        ),
    ] = None
    select: Select = "score"
    reject: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="share of the answers that is ended after each wave, those with the worst scores so far: 0.5 for half; null "
            "ends none",
        ),
    ] = None
    wave_tokens: Annotated[
        int, Field(ge=1, le=4096, description="with `reject`: the most tokens that an answer grows in a wave")
    ] = 32
    separator: Annotated[
        str | None,
        Field(
            min_length=1, max_length=32, description="with `reject`: a text that also ends the wave of an answer, such as `\\n`"
        ),
    ] = None


class BestOfN(Strategy[BestOfNParams]):
    """Draws n candidates, scores them together, and returns the best."""

    name = "best_of_n"
    summary = "Draws n candidates at once and lets a verifier pick the best."
    comparison = "ahead with `equations` on answers that calculate"
    Params = BestOfNParams

    def width(self, num_choices: int) -> int:
        """Return n: all candidates are drawn at once."""
        return max(self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than candidates, and a verifier that cannot score answers to the task, or rank the partial ones."""
        check_choices(self.name, task, self.params.n, "n")
        self._verifier(task)
        if self.params.reject is None:
            return
        choice = self._choice
        if choice is not None and not (choice.verifier.scores_steps and choice.verifier.ranks_steps):
            message = f"{self.name} cannot reject partial answers by {choice.name}: it tells no partial answer from another"
            raise UnsupportedTask(message, parameter="verifier")
        if task.is_constrained or not task.is_continuable:
            message = (
                "reject continues answers from their middle, where a grammar, penalties, stop and min_tokens would begin anew"
            )
            raise UnsupportedTask(message, parameter="reject")

    @property
    def _choice(self) -> VerifierChoice | None:
        return self.params.verifier or (None if self.params.reject is None else LIKELIHOOD)

    def _verifier(self, task: Task) -> Verifier:
        return build_for(self._choice, task, self.context)

    def _rejection(self, num_choices: int) -> Rejection | None:
        """Return what is rejected; None where nothing is."""
        rejection = None if self.params.reject is None else Rejection(self.params.reject, num_choices)
        return rejection if rejection and rejection.num_kept(self.params.n) < self.params.n else None

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:
        """Return the cost of n answers that are scored together; with rejection of those that each wave continues and scores."""
        rejection = self._rejection(task.num_choices)
        if rejection is None:
            waves = [(self.params.n, answer_tokens)]
        else:
            waves = rejection.waves(self.params.n, self.params.wave_tokens, answer_tokens)
        branches, tokens = sum(num for num, _ in waves), sum(num * size for num, size in waves)
        return Forecast(branches, tokens, len(waves), num_calls(self.params.verifier, branches))

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw and score all, and return the best distinct ones in order."""
        scorer = Scorer(self._verifier(task), task, model)
        if (rejection := self._rejection(task.num_choices)) is not None:
            return await self._draw_in_waves(rejection, scorer, task, model, emit)
        return await self._draw_at_once(scorer, task, model, emit)

    async def _draw_at_once(self, scorer: Scorer, task: Task, model: Model, emit: Emit) -> Result:
        """Draw all and score them together.

        With an exact verifier each candidate is scored as soon as those before it are there, and the first proof ends the search.
        """
        drawn: list[Candidate] = []
        scores: dict[int, float] = {}
        is_proven = False
        draw = Draw(task.prefix, self.params.n, num_logprobs=scorer.num_logprobs, ends_loops=task.ends_loops)
        async with model.sample(draw) as samples:
            async for candidate in in_order(samples) if scorer.is_exact else samples:
                drawn.append(candidate)
                words = opening_words(task.read(candidate))
                node = candidate_node(ScoredCandidate(candidate))
                emit(Progress(f"Candidate {len(drawn)} of {self.params.n}: {words}", (node,)))
                if scorer.is_exact:
                    [scores[candidate.index]] = await scorer.score([candidate])
                    if is_proven := scorer.has_proven(candidate, scores[candidate.index]):
                        break
        drawn.sort(key=lambda candidate: candidate.index)
        if not scorer.is_exact:
            scores = dict(zip((one.index for one in drawn), await scorer.score(drawn), strict=True))
        chosen, scored = await choose(task, drawn, scores, self.context.equivalence, self.params.select)
        stop = StopReason.VERIFIED if is_proven else ended(model)
        return Result(chosen, scored, stop, notes=tuple(scorer.notes))

    async def _draw_in_waves(self, rejection: Rejection, scorer: Scorer, task: Task, model: Model, emit: Emit) -> Result:
        """Draw all in waves, reject the worst after each, and choose among the answers that have ended."""
        separators = () if self.params.separator is None else (self.params.separator,)
        step = Step(separators, self.params.wave_tokens)
        tree = Tree(task, model, emit, scorer, Steps(step, depth=task.max_tokens))
        partial = await grow_rejecting(tree, self.params.n, rejection)
        preferred = {node.id for node in partial}
        return await tree.result(self.context, StopReason.COMPLETED, select=self.params.select, preferred=preferred)
