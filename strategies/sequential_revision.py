"""Draft, then revise with the previous attempts in view, in several chains side by side (Snell et al. 2024, arXiv 2408.03314).

Each attempt is a whole answer, in the turn after a request to reconsider. Its prefix is the conversation so far, which is in the cache.
All attempts of all chains are candidates. Snell et al. choose among all of them too, since a revision may spoil a right answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.parameters import Params, Select
from strategies.core.ports import Emit, Model
from strategies.core.results import NodeState, Progress, Result, TraceNode
from strategies.core.strategy import Forecast, Strategy, ended
from strategies.core.values import Candidate, Draw, StopReason, Task
from strategies.search.scorer import Scorer
from strategies.verifiers import AnswerVerifier, build_for, num_calls
from strategies.voting.selection import choose


class SequentialRevisionParams(Params):
    """Parameters of `sequential_revision`."""

    chains: Annotated[int, Field(ge=1, le=64, description="chains side by side")] = 2
    attempts: Annotated[int, Field(ge=1, le=32, description="answers of each chain, the draft being the first")] = 4
    in_view: Annotated[int, Field(ge=1, le=16, description="previous attempts that a revision sees, the latest ones")] = 4
    prompt: Annotated[str, Field(min_length=1, max_length=4000, description="what asks for a revision")] = (
        "There may be a mistake in that answer. Check it, and answer the question again."
    )
    verifier: AnswerVerifier = None
    select: Select = "score"


@dataclass(slots=True)
class _Run:
    """All attempts so far.

    Attributes:
        chains: the attempts of each chain, in order.
        scores: by index; with an exact verifier as soon as an attempt is there, else at the end.
        proven: index of the attempt that an exact verifier has proven, if any.

    """

    task: Task
    model: Model
    scorer: Scorer
    chains: list[list[Candidate]]
    scores: dict[int, float] = field(default_factory=dict)
    proven: int | None = None

    @property
    def attempts(self) -> list[Candidate]:
        return sorted((one for chain in self.chains for one in chain), key=lambda one: one.index)

    @property
    def best(self) -> Candidate | None:
        """The newest of the attempts with the highest score, a whole one before one that was cut; None without an attempt."""
        return max(self.attempts, key=lambda one: (one.completeness, self.scores.get(one.index, 0.0), one.index), default=None)


class SequentialRevision(Strategy[SequentialRevisionParams]):
    """Writes drafts and revises them, and returns the best of all attempts."""

    name = "sequential_revision"
    summary = "Answers, then revises with the previous attempts in view, in several chains side by side."
    Params = SequentialRevisionParams

    def width(self, num_choices: int) -> int:
        """Return the number of chains: each draws one attempt at a time."""
        return max(self.params.chains, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than attempts, and a verifier that cannot score answers to the task."""
        check_choices(self.name, task, self.params.chains * self.params.attempts, "attempts")
        build_for(self.params.verifier, task, self.context)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of all attempts as whole answers; those of one chain come one after the other."""
        num = self.params.chains * self.params.attempts
        return Forecast(num, num * answer_tokens, self.params.attempts, num_calls(self.params.verifier, num))

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw one attempt of every chain at a time, and choose among all attempts."""
        scorer = Scorer(build_for(self.params.verifier, task, self.context), task, model)
        run = _Run(task, model, scorer, [[] for _ in range(self.params.chains)])
        for number in range(self.params.attempts):
            drawn = await (self._revisions(run, number) if number else self._drafts(run))
            await self._score(run, drawn)
            line = f"Attempt {number + 1} of {self.params.attempts}: {len(run.attempts)} answers"
            emit(Progress(line, _nodes(run, drawn), run.best))
            if not drawn or run.proven is not None or model.stopped is not None:
                break
        attempts = run.attempts
        if not scorer.is_exact:
            run.scores = dict(zip((one.index for one in attempts), await scorer.score(attempts), strict=True))
        chosen, scored = await choose(task, attempts, run.scores, self.context.equivalence, self.params.select)
        stop = StopReason.VERIFIED if run.proven is not None else ended(model)
        winners = {one.candidate.index for one in chosen}
        read = {one.candidate.index: one.answer for one in scored}
        nodes = [replace(node, answer=read[node.id]) for node in _nodes(run, attempts, winners)]
        return Result(chosen, scored, stop, tuple(nodes), tuple(scorer.notes))

    async def _drafts(self, run: _Run) -> list[Candidate]:
        """Draw the first attempt of every chain, all from the prompt itself."""
        task = run.task
        draw = Draw(task.prefix, len(run.chains), num_logprobs=run.scorer.num_logprobs, ends_loops=task.ends_loops)
        async with run.model.sample(draw) as samples:
            drawn = sorted([candidate async for candidate in samples], key=lambda one: one.index)
        for draft in drawn:
            run.chains[draft.index].append(draft)
        return drawn

    async def _revisions(self, run: _Run, number: int) -> list[Candidate]:
        """Draw the next attempt of each chain whose latest attempt is whole: behind one that was cut nothing can be asked."""
        continued = [
            index for index, chain in enumerate(run.chains) if len(chain) == number and chain and chain[-1].is_complete
        ]
        async with asyncio.TaskGroup() as group:
            drawing = [group.create_task(self._revise(run, number, chain)) for chain in continued]
        return [one for drawn in drawing for one in drawn.result()]

    async def _revise(self, run: _Run, number: int, chain: int) -> list[Candidate]:
        attempts = run.chains[chain]
        draw = Draw(
            self._conversation(run.task, attempts[-self.params.in_view :]),
            1,
            first_index=number * len(run.chains) + chain,
            num_logprobs=run.scorer.num_logprobs,
            # an answer's own limit: by default the previous attempts would count against it
            max_tokens=run.task.max_tokens,
            ends_loops=run.task.ends_loops,
        )
        async with run.model.sample(draw) as samples:
            drawn = [candidate async for candidate in samples]
        attempts.extend(drawn)
        return drawn

    def _conversation(self, task: Task, previous: Sequence[Candidate]) -> tuple[int, ...]:
        """Return the token ids of the prompt, and of each previous attempt with the request to revise it."""
        request = (task.next_turn or task.follow_up)(self.params.prompt)
        prefix = task.prefix
        for attempt in previous:
            prefix = (*prefix, *task.prefix_with(attempt)[len(task.prefix) :], *request)
        return prefix

    async def _score(self, run: _Run, drawn: Sequence[Candidate]) -> None:
        """With an exact verifier, score the new attempts at once: a proof ends the search."""
        if run.scorer.is_exact:
            for candidate, score in zip(drawn, await run.scorer.score(drawn), strict=True):
                run.scores[candidate.index] = score
                if run.proven is None and run.scorer.has_proven(candidate, score):
                    run.proven = candidate.index


def _nodes(run: _Run, attempts: Sequence[Candidate], winners: set[int] | None = None) -> tuple[TraceNode, ...]:
    """Return attempts as nodes, each the child of the attempt that it revises."""
    num_chains = len(run.chains)
    return tuple(
        TraceNode(
            id=one.index,
            parent=one.index - num_chains if one.index >= num_chains else None,
            text=one.text,
            tokens=len(one.token_ids),
            state=NodeState.CHOSEN if winners and one.index in winners else NodeState.FINAL,
            score=run.scores.get(one.index),
            value=run.scores.get(one.index),
            finish_reason=one.finish_reason,
            cost=one.cost,
        )
        for one in attempts
    )
