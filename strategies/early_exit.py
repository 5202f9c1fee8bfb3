"""Ends the thinking of a model as soon as it is sure of its answer, or its trial answers agree (`strategies.checking.trials`).

A thought is one branch. While it goes on, a trial answer is drawn at its transitions, one at a time. Where a trial passes, the thought
is cut back to its transition, its thinking is ended, and the answer is drawn from there.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints

from strategies.checking.thoughts import LONGEST_WORD, TRANSITIONS, Thought
from strategies.checking.trials import INDUCERS, Exit, Mean, Trial, TrialRule, Trials, agree
from strategies.checking.tried_thought import TriedThought
from strategies.core.checks import check_choices, check_comparable
from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import NumAnswers, Params
from strategies.core.ports import Emit, Model
from strategies.core.results import NodeState, Progress, Result
from strategies.core.strategy import Forecast, Strategy, ended
from strategies.core.thinking import ExitThreshold, Thinking
from strategies.core.values import Candidate, Delta, Draw, Step, StopReason, Task
from strategies.core.verifier import StrategyContext
from strategies.voting.selection import choose, opening_words

DEER_THRESHOLD = 0.95
"""The confidence at which a thought ends where none was measured for the model."""

NOT_THINKING = Thinking("", "", ())
"""Of a task whose model does not think: its branches have no transitions."""


class EarlyExitParams(Params):
    """Parameters of `early_exit`."""

    n: Annotated[NumAnswers, Field(description="thoughts, all at once; their answers vote")] = 1
    rule: Annotated[
        Literal["confidence", "agreement"],
        Field(
            description="`confidence`: the model is sure of a trial answer (DEER); `agreement`: the last ones agree (Certaindex)"
        ),
    ] = "confidence"
    threshold: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="confidence at which a thought ends; by default what `ponder calibrate` has measured for the model, else "
            f"DEER's {DEER_THRESHOLD}",
        ),
    ] = None
    confidence: Annotated[
        Mean, Field(description="of the probabilities of a trial answer's tokens: arithmetic or geometric mean, or the least")
    ] = "mean"
    window: Annotated[int, Field(ge=2, le=32, description="`agreement`: number of trial answers that must agree")] = 3
    trial_tokens: Annotated[
        int, Field(ge=1, le=64, description="the most tokens of a trial answer, and the fewest between two trials")
    ] = 20
    transitions: Annotated[
        list[Annotated[str, StringConstraints(max_length=LONGEST_WORD, pattern=r"\S|^\n\n?$")]] | None,  # no other white space
        Field(
            min_length=1,
            max_length=32,
            description="where trials are made: words at the beginning of a line, `\\n\\n` for a blank line, `\\n` for every line; "
            "by default those of a measured threshold, else Wait, Alternatively, But, Hmm, and a blank line",
        ),
    ] = None
    inducer: Annotated[
        str | None,
        Field(
            max_length=400,
            description="what opens a trial answer behind the end of the thinking; by default `#### ` for math, `The answer is (` for "
            "choice, nothing for text",
        ),
    ] = None

    def with_thresholds(self, measured: Sequence[ExitThreshold]) -> Self:
        """Return the parameters with a threshold: the first measured one that fits them, else DEER's.

        One fits for the same mean of probabilities and the same transitions, and where the trials are opened as they were measured.
        """
        if self.threshold is not None or self.rule != "confidence":
            return self
        for one in measured if self.inducer is None else ():
            if one.confidence == self.confidence and self.transitions in (None, list(one.transitions)):
                return self.model_copy(update={"threshold": one.threshold, "transitions": list(one.transitions)})
        return self.model_copy(update={"threshold": DEER_THRESHOLD})


class EarlyExit(Strategy[EarlyExitParams]):
    """Thinks n times, and ends each thinking where a trial answer passes."""

    name = "early_exit"
    summary = "Ends the thinking of a model as soon as a trial answer shows that it is sure."
    comparison = "as right as whole thinking, with less of it"
    Params = EarlyExitParams
    temperature = None  # one thought is compared with nothing, and models that think name the temperature that they need

    def __init__(self, params: EarlyExitParams, context: StrategyContext) -> None:
        super().__init__(params.with_thresholds(context.exits), context)

    def width(self, num_choices: int) -> int:
        """Return twice n: each thought has one trial at a time."""
        return max(2 * self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than thoughts, answers that cannot be compared or tried, and a model that does not think."""
        check_choices(self.name, task, self.params.n, "n")
        if self.params.n > 1 or self.params.rule == "agreement":
            check_comparable(self.name, task)
        if task.kind not in INDUCERS or task.is_constrained:
            raise UnsupportedTask(f"{self.name} has no trial answers for tool calls and grammars", parameter="strategy")
        if task.thinking is None or not task.thinking.end_ids:
            message = f"{self.name} needs a model that thinks: this one does not, or the request has switched it off"
            raise UnsupportedTask(message, parameter="strategy")

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of n whole thoughts, without trials: nobody knows how many transitions come."""
        return Forecast(self.params.n, self.params.n * answer_tokens)

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw the thoughts together, watch each of them, and let their answers vote."""
        run = _Run(task, model, emit, self.params, self.context)
        draw = Draw(
            task.prefix,
            self.params.n,
            num_logprobs=task.num_logprobs or 0,  # to know where tokens end
            step=Step(until=run.is_cut),
            on_delta=run.feed,
            needs_deltas=True,
            ends_loops=task.ends_loops,
        )
        async with asyncio.TaskGroup() as group, model.sample(draw) as samples:
            for number in range(self.params.n):
                group.create_task(run.think(number))
            async for candidate in samples:
                run.end(candidate.index, candidate)
            for number in range(self.params.n):
                run.end(number, None)
        return await run.result()


class _Run:
    """All thoughts of one run."""

    def __init__(self, task: Task, model: Model, emit: Emit, params: EarlyExitParams, context: StrategyContext) -> None:
        self._task, self._model, self._emit, self._params, self._context = task, model, emit, params, context
        self._thinking = task.thinking or NOT_THINKING
        inducer = INDUCERS.get(task.kind, "") if params.inducer is None else params.inducer
        self._rule = TrialRule(inducer, params.trial_tokens, params.confidence, self._passes)
        self._branches = [self._branch(number) for number in range(params.n)]

    def _branch(self, number: int) -> TriedThought:
        thought = Thought(self._thinking, TRANSITIONS if self._params.transitions is None else self._params.transitions)
        index, report = partial(self._index, number), partial(self._report, number)
        trials = Trials(self._task, self._model, thought, self._rule, index=index, report=report)
        return TriedThought(thought, trials, asyncio.get_running_loop().create_future())

    async def _passes(self, trials: Sequence[Trial]) -> bool:
        if self._params.rule == "agreement":
            return await agree(trials, self._params.window, self._task.kind, self._context.equivalence)
        return trials[-1].is_sure(DEER_THRESHOLD if self._params.threshold is None else self._params.threshold)

    def _index(self, number: int, num_trials: int) -> int:
        """Return the index of what a thought draws after so many trials: no two draws of a run have the same, whatever their order."""
        return self._params.n * (1 + num_trials) + number

    def _report(self, number: int, trial: Trial) -> None:
        place = len(self._branches[number].trials.drawn)
        answer = trial.answer or "no answer"
        self._emit(Progress(f"Trial {place} of thought {number + 1}: {opening_words(answer)} ({trial.confidence:.2f})"))

    def feed(self, delta: Delta) -> None:
        """Pass on what a branch has written."""
        if self._task.thinking is not None:
            self._branches[delta.index].thought.feed(delta)

    def is_cut(self, text: str) -> bool:
        """Return whether the branch with this text is to end. Two with the same text have the same exit."""
        return any(one.exit is not None and one.thought.said == text for one in self._branches)

    def end(self, number: int, reply: Candidate | None) -> None:
        """Tell what a branch has written in the end; the first call counts."""
        branch = self._branches[number]
        if not branch.reply.done():
            branch.reply.set_result(reply)
            branch.thought.end()

    async def think(self, number: int) -> None:
        """Watch one thought until it is cut or ends by itself, and draw the answer behind a cut."""
        branch = self._branches[number]
        branch.exit = await branch.trials.find_exit() or await self._shared_exit(branch)
        if branch.exit is not None:
            ids = branch.thought.token_ids[: branch.exit.transition.num_tokens]
            draw = Draw(
                (*self._task.prefix, *ids, *self._thinking.end_ids),
                1,
                first_index=self._index(number, len(branch.trials.drawn)),
                num_logprobs=self._task.num_logprobs or 0,
                ends_loops=self._task.ends_loops,
            )
            async with self._model.sample(draw) as samples:
                async for answer in samples:
                    branch.answer = answer
        branch.final = branch.joined(await branch.reply, self._thinking)
        if branch.final is not None:
            cut = f" (thinking ended after {branch.exit.transition.num_tokens} tokens)" if branch.exit else ""
            words = opening_words(self._task.read(branch.final))
            self._emit(Progress(f"Thought {number + 1} of {self._params.n}: {words}{cut}", tuple(branch.nodes(number))))

    async def _shared_exit(self, branch: TriedThought) -> Exit | None:
        """Return the exit of the thought that has the same words, where that ended this one before its own trial was there."""
        reply = await branch.reply
        if reply is None or reply.finish_reason != "step":
            return None
        exits = (one.exit for one in self._branches if one.exit and one.thought.said.startswith(branch.thought.said))
        return next(exits, None)

    async def result(self) -> Result:
        """Return the answers by votes; the score of a candidate is the confidence at which its thinking was ended."""
        finals = [one.final for one in self._branches if one.final is not None]
        votes = {one.index: 1.0 for one in finals}
        chosen, scored = await choose(self._task, finals, votes, self._context.equivalence, "vote")
        scores = {one.answer.index: one.exit.confidence for one in self._branches if one.answer and one.exit}
        chosen, scored = (
            tuple(replace(one, score=scores.get(one.candidate.index)) for one in some) for some in (chosen, scored)
        )
        read = {one.candidate.index: one.answer for one in scored}
        winners = {one.candidate.index for one in chosen}
        nodes = [node for number, branch in enumerate(self._branches) for node in branch.nodes(number)]
        nodes = [
            replace(
                node,
                answer=read.get(node.id, node.answer),
                state=NodeState.CHOSEN if node.id in winners else node.state,
            )
            for node in sorted(nodes, key=lambda node: node.id)
        ]
        stop = StopReason.SETTLED if any(index in scores for index in winners) else StopReason.COMPLETED
        return Result(chosen, scored, ended(self._model, stop), tuple(nodes))
