"""Tried thoughts: the trial answers that `early_exit` would draw in a whole thinking, none of which ends it.

The samples of a pool are thoughts that nothing has ended. Their transitions are tried with the strategy's own code, by a rule that no
trial passes, so that each threshold can be replayed from one file. What is drawn behind an exit is not recorded: its answer is taken to
be that of the trial.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from adapters.concurrency import for_each
from adapters.disk import append_line
from adapters.training.data import DatasetQuestion
from app.lab.calibration.pool import read_lines
from app.lab.calibration.sampling import PoolSampler
from app.routing.pool_file import DECIMALS, PoolEntry, Value
from app.routing.pooled_answers import candidate_of
from app.routing.sample_only import SampleOnly
from strategies.checking.thoughts import TRANSITIONS, Thought
from strategies.checking.trials import INDUCERS, Mean, Trial, TrialRule, Trials, read_trial
from strategies.core.ports import Model
from strategies.core.thinking import Thinking
from strategies.core.values import AnswerKind, Candidate, Delta, Draw, Step, Task, TokenLogprob
from strategies.early_exit import EarlyExitParams

MEANS: tuple[Mean, ...] = get_args(Mean)

PLACES = {"turns": TRANSITIONS, "lines": ("\n",)}
"""The transitions that are tried: those of `early_exit` by default, and every line."""


class RecordedTrial(Value):
    """A trial answer.

    Attributes:
        num_thought: number of tokens that were thought before it.
        decided: number of tokens that the thought has once the trial is there.
        tokens: of the trial.
        text: of the trial, without what opened it.
        answer: in canonical form; None if none can be read.
        confidences: of its tokens, by each mean.

    """

    num_thought: int
    decided: int
    tokens: int
    text: str
    answer: str | None
    confidences: dict[Mean, float]
    is_right: bool


class TriedThought(Value):
    """A line of the file: one whole thinking with its trials.

    Attributes:
        key: the key of the question.
        sample: the number of the sample in the pool.
        kind: the kind of the answer.
        thinking: number of tokens that were thought.
        is_right: whether the answer behind the whole thinking is right.
        trials: by the name of their transitions, in the order in which they are made.

    """

    version: Literal[1] = 1
    key: str
    sample: int
    kind: AnswerKind
    thinking: int
    is_right: bool
    trials: dict[str, tuple[RecordedTrial, ...]]


class TriedThoughts:
    """The file of tried thoughts. Each is written as soon as it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thoughts = {(one.key, one.sample): one for one in read_lines(path, TriedThought)}

    async def run(
        self,
        sampler: PoolSampler,
        entries: Sequence[tuple[DatasetQuestion, PoolEntry]],
        num: int,
        *,
        at_once: int,
        report: Callable[[int, int], None],
    ) -> None:
        """Try the first `num` samples of each question that are not in the file. Where the model does not think, none is tried.

        Args:
            sampler: of the pool.
            entries: questions with their answers.
            num: the number of samples of each question.
            at_once: the number of thoughts that are tried at a time.
            report: is called with the number of finished thoughts and the number of all.

        """
        wanted = [(question, entry, place) for question, entry in entries for place in range(min(num, len(entry.samples)))]
        missing = [one for one in wanted if (one[1].key, one[2]) not in self._thoughts]
        finished = len(wanted) - len(missing)

        async def run(one: tuple[DatasetQuestion, PoolEntry, int]) -> None:
            nonlocal finished
            question, entry, place = one
            if (thought := await try_thought(sampler, question, entry, place)) is not None:
                append_line(self._path, thought.model_dump_json())
                self._thoughts[entry.key, place] = thought
            finished += 1
            report(finished, len(wanted))

        await for_each(missing, run, at_once)

    def of(self, keys: Sequence[str], num: int) -> list[TriedThought]:
        """Return those of the first `num` samples of these questions."""
        return [one for key in keys for place in range(num) if (one := self._thoughts.get((key, place))) is not None]


async def try_thought(sampler: PoolSampler, question: DatasetQuestion, entry: PoolEntry, place: int) -> TriedThought | None:
    """Try a sample of a question at all places. Returns None where there is no thinking, or where its kind of answer has no trials."""
    return await sampler.with_model(
        question, partial(_try_thought, sampler=sampler, question=question, entry=entry, place=place)
    )


async def _try_thought(
    task: Task, model: Model, *, sampler: PoolSampler, question: DatasetQuestion, entry: PoolEntry, place: int
) -> TriedThought | None:
    if task.thinking is None or not task.thinking.end_ids or task.kind not in INDUCERS:
        return None
    sample, defaults, inducer = entry.samples[place], EarlyExitParams(), INDUCERS[task.kind]
    rule = TrialRule(inducer, defaults.trial_tokens, defaults.confidence, _never)
    once, trials, thinking = _DrawnOnce(model), {}, 0
    for name, transitions in PLACES.items():
        thought = whole_thought(task.thinking, candidate_of(sample), transitions)
        drawn = Trials(task, once, thought, rule, index=lambda num: num, report=lambda _trial: None)
        await drawn.find_exit()
        grades = await sampler.grade(question, [(inducer + one.candidate.text, one.answer is not None) for one in drawn.drawn])
        trials[name] = tuple(
            _recorded(task, inducer, one, is_right=is_right) for one, is_right in zip(drawn.drawn, grades, strict=True)
        )
        thinking = thought.num_thought
    return TriedThought(key=entry.key, sample=place, kind=task.kind, thinking=thinking, is_right=sample.is_right, trials=trials)


def whole_thought(thinking: Thinking, candidate: Candidate, transitions: Sequence[str]) -> Thought:
    """Return the thought of an answer that has ended. Where its thinking was cut off, it ends there."""
    thought = Thought(thinking, transitions)
    thought.feed(Delta(0, candidate.text, candidate.token_ids, candidate.logprobs))
    if not thought.is_over:
        end = TokenLogprob(thinking.end, thinking.end_ids[0], 0.0)
        thought.feed(Delta(0, end.token, (end.token_id,), (end,)))
    return thought


async def _never(_trials: Sequence[Trial]) -> bool:
    return False


def _recorded(task: Task, inducer: str, trial: Trial, *, is_right: bool) -> RecordedTrial:
    confidences = {mean: read_trial(task, inducer, trial.candidate, mean).confidence for mean in MEANS}
    return RecordedTrial(
        num_thought=trial.num_thought, decided=trial.decided, tokens=len(trial.candidate.token_ids), text=trial.candidate.text,
        answer=trial.answer, confidences={mean: round(one, DECIMALS) for mean, one in confidences.items()}, is_right=is_right,
    )  # fmt: skip


class _DrawnOnce(SampleOnly):
    """A model that draws the trials of one thought, each place once and whole, whether or not it would come too late."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._drawn: dict[tuple[int, ...], list[Candidate]] = {}

    @asynccontextmanager
    async def sample(self, draw: Draw) -> AsyncIterator[AsyncIterator[Candidate]]:
        """Yield the trial; nothing where the context has no room for it."""
        yield self._draw(draw)

    async def _draw(self, draw: Draw) -> AsyncIterator[Candidate]:
        if draw.prefix not in self._drawn:
            whole = replace(draw, step=Step(draw.step.separators), on_delta=None, needs_deltas=False)
            async with self._model.sample(whole) as samples:
                self._drawn[draw.prefix] = [candidate async for candidate in samples]
        for candidate in self._drawn[draw.prefix]:
            yield candidate
