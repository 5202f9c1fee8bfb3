"""Answers that are written in rounds: those of one round are drawn together, each with answers of earlier rounds in view."""

import asyncio
import random
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

from strategies.core.parameters import Params, Select
from strategies.core.ports import Emit, Model
from strategies.core.results import NodeState, Progress, Result, TraceNode
from strategies.core.strategy import Forecast, Strategy, ended
from strategies.core.values import Candidate, Draw, StopReason, Task
from strategies.search.scorer import Scorer
from strategies.verifiers import AnswerVerifier, build_for, num_calls
from strategies.voting.selection import choose


class RoundParams(Params):
    """Parameters of all strategies that write in rounds."""

    verifier: AnswerVerifier = None
    select: Select = "score"


@dataclass(frozen=True, slots=True)
class View:
    """What one answer is written with.

    Attributes:
        prefix: token ids that it continues: a conversation.
        answers: the earlier answers in it, the one that it hangs under in the trace last; none if it continues the prompt alone.

    """

    prefix: tuple[int, ...]
    answers: tuple[Candidate, ...] = ()


@dataclass(slots=True)
class Run:
    """All answers so far.

    Attributes:
        size: answers of a round. The answer at a position of a round has the index round * size + position.
        chance: what is drawn at random comes from here, in the order of rounds and positions.
        rounds: the answers of each round, by index.
        seen: by index, the indices of the answers that it was written with.
        scores: by index; with an exact verifier as soon as an answer is there, else at the end.
        proven: index of the answer that an exact verifier has proven, if any.

    """

    task: Task
    model: Model
    scorer: Scorer
    size: int
    chance: random.Random
    rounds: list[list[Candidate]] = field(default_factory=list)
    seen: dict[int, tuple[int, ...]] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    proven: int | None = None

    @property
    def answers(self) -> list[Candidate]:
        """All answers, by index."""
        return [one for drawn in self.rounds for one in drawn]

    @property
    def best(self) -> Candidate | None:
        """The newest of the answers with the highest score, a whole one before one that was cut; None without an answer."""
        return max(self.answers, key=lambda one: (one.completeness, self.scores.get(one.index, 0.0), one.index), default=None)

    def view(self, answers: Sequence[Candidate], prefix_of: Callable[[Sequence[Candidate]], tuple[int, ...]]) -> View | None:
        """Return a view of these answers, or of fewer, the last ones, where the context has no room for more.

        It must have room for another answer as long as the longest one of the last round. None if it has not even with one in view.
        """
        task = self.task
        needed = min(max(len(one.token_ids) for one in self.rounds[-1]), task.max_tokens)
        for first in range(len(answers)):
            prefix = prefix_of(answers[first:])
            if task.context_tokens is None or len(prefix) + needed <= task.context_tokens:
                return View(prefix, tuple(answers[first:]))
        return None

    async def begin(self) -> list[Candidate]:
        """Draw the first round, all from the prompt itself."""
        draw = Draw(self.task.prefix, self.size, num_logprobs=self.scorer.num_logprobs, ends_loops=self.task.ends_loops)
        return await self._note(await self._sample(draw))

    async def go_on(self, views: Mapping[int, View]) -> list[Candidate]:
        """Draw the next round: at each of these positions an answer with that view."""
        first = len(self.rounds) * self.size
        async with asyncio.TaskGroup() as group:
            drawing = [group.create_task(self._write(first + position, view)) for position, view in views.items()]
        return await self._note([one for drawn in drawing for one in drawn.result()])

    async def _write(self, index: int, view: View) -> list[Candidate]:
        self.seen[index] = tuple(one.index for one in view.answers)
        draw = Draw(
            view.prefix,
            1,
            first_index=index,
            num_logprobs=self.scorer.num_logprobs,
            answer_start=len(view.prefix),
            ends_loops=self.task.ends_loops,
        )
        return await self._sample(draw)

    async def _sample(self, draw: Draw) -> list[Candidate]:
        async with self.model.sample(draw) as samples:
            return [candidate async for candidate in samples]

    async def _note(self, drawn: list[Candidate]) -> list[Candidate]:
        """Keep a round, and with an exact verifier score it at once: a proof ends the run."""
        drawn.sort(key=lambda one: one.index)
        self.rounds.append(drawn)
        if self.scorer.is_exact:
            for candidate, score in zip(drawn, await self.scorer.score(drawn), strict=True):
                self.scores[candidate.index] = score
                if self.proven is None and self.scorer.has_proven(candidate, score):
                    self.proven = candidate.index
        return drawn

    def nodes(self, answers: Sequence[Candidate]) -> tuple[TraceNode, ...]:
        """Return answers as nodes, each the child of the last answer that it saw."""
        return tuple(
            TraceNode(
                id=one.index,
                parent=next(reversed(self.seen.get(one.index, ())), None),
                in_view=self.seen.get(one.index, ()),
                text=one.text,
                tokens=len(one.token_ids),
                state=NodeState.FINAL,
                score=self.scores.get(one.index),
                value=self.scores.get(one.index),
                finish_reason=one.finish_reason,
                cost=one.cost,
            )
            for one in answers
        )


P = TypeVar("P", bound=RoundParams)


class InRounds(Strategy[P]):
    """Writes answers in rounds. A strategy says how many, what each is written with, and which are chosen from.

    Attributes:
        round_name: what progress calls a round.

    """

    round_name: ClassVar[str] = "Round"

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of answers of a round."""

    @property
    @abstractmethod
    def num_rounds(self) -> int:
        """The most rounds, the first one included."""

    @abstractmethod
    def views(self, run: Run) -> dict[int, View]:
        """Return what the next answers are written with, by position; where nothing is given, none is written."""

    async def is_settled(self, run: Run) -> bool:  # noqa: ARG002 - for strategies that look at the answers
        """Return whether another round is not worth writing; by default never."""
        return False

    def finalists(self, run: Run) -> list[Candidate]:
        """Return the answers that are scored and come before all others that are whole: by default all."""
        return run.answers

    def width(self, num_choices: int) -> int:
        """Return the number of answers of a round: they are drawn together."""
        return max(self.size, num_choices)

    def check(self, task: Task) -> None:
        """Refuse a verifier that cannot score answers to the task."""
        build_for(self.params.verifier, task, self.context)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of all answers; rounds come one after the other."""
        num = self.size * self.num_rounds
        return Forecast(num, num * answer_tokens, self.num_rounds, num_calls(self.params.verifier, self.num_finalists))

    @property
    def num_finalists(self) -> int:
        """How many answers are chosen from at most."""
        return self.size * self.num_rounds

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw one round after the other, and choose."""
        scorer = Scorer(build_for(self.params.verifier, task, self.context), task, model)
        run = Run(task, model, scorer, self.size, random.Random(task.seed))  # noqa: S311 - sampling, not secrets
        otherwise = StopReason.COMPLETED
        for number in range(1, self.num_rounds + 1):
            drawn = await (run.go_on(self.views(run)) if run.rounds else run.begin())
            line = f"{self.round_name} {number} of {self.num_rounds}: {len(run.answers)} answers"
            emit(Progress(line, run.nodes(drawn), run.best))
            if not drawn or run.proven is not None or model.stopped is not None:
                break
            if number < self.num_rounds and await self.is_settled(run):
                otherwise = StopReason.SETTLED
                break
        return await self._result(run, otherwise)

    async def _result(self, run: Run, otherwise: StopReason) -> Result:
        finalists = self.finalists(run)
        indices = [one.index for one in finalists]
        if not run.scorer.is_exact:
            run.scores = dict(zip(indices, await run.scorer.score(finalists), strict=True))
        chosen, scored = await choose(
            run.task, run.answers, run.scores, self.context.equivalence, self.params.select, preferred=set(indices)
        )
        winners = {one.candidate.index for one in chosen}
        read = {one.candidate.index: one.answer for one in scored}
        nodes = tuple(
            replace(node, answer=read[node.id], state=NodeState.CHOSEN if node.id in winners else node.state)
            for node in run.nodes(run.answers)
        )
        stop = StopReason.VERIFIED if run.proven is not None else ended(run.model, otherwise)  # scoring may have spent the rest
        return Result(chosen, scored, stop, nodes, tuple(run.scorer.notes))
