"""Fills a pool: a service answers each question greedily and several times by sampling, many questions at once."""

from asyncio import TaskGroup, timeout_at
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from adapters.concurrency import for_each
from adapters.training.data import DatasetQuestion
from adapters.training.ports import Answer
from app.lab.calibration.pool import Pool, PoolRefused
from app.lab.grading import AnswerGrader, kind_of
from app.lab.service import LabService, RequestRun
from app.routing.backtracked_answers import continued, with_continuations
from app.routing.pool_file import DECIMALS, PoolEntry, PoolSettings, Sample
from app.routing.pooled_answers import FIRST_ALTERNATIVES, generation_fields, marks_of, with_first_tokens
from strategies.core.ports import Model
from strategies.core.values import Candidate, Draw, ScoredCandidate, Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The outcome of a strategy on one question.

    Attributes:
        branches: the number of branches that it drew.

    """

    is_right: bool
    flops: int
    branches: int


class PoolSampler:
    """Samples the answers of a pool.

    Args:
        service: answers the questions.
        adapter: the name of the adapter that answers, None for the base model.
        verifier: the name of the adapter that scores the samples, None for a pool without scores.
        grader: decides which answers are right.
        settings: the settings of the pool.

    """

    def __init__(
        self, service: LabService, adapter: str | None, verifier: str | None, grader: AnswerGrader, settings: PoolSettings
    ) -> None:
        self._service = service
        self._adapter = adapter
        self._verifier = verifier
        self._grader = grader
        self._settings = settings

    async def fill(
        self,
        pool: Pool,
        questions: Sequence[DatasetQuestion],
        *,
        at_once: int,
        report: Callable[[int, int], None],
        deadline: float | None = None,
    ) -> None:
        """Sample answers for all questions that are not in the pool. Each entry is written as soon as it is complete.

        Args:
            pool: the pool that is filled.
            questions: with known answers.
            at_once: the number of questions that are answered concurrently.
            report: is called with the number of finished questions and the number of all questions.
            deadline: of the event loop's clock. Questions that are in progress then are cancelled.

        """
        by_key = {question.key: question for question in questions}

        async def add(question: DatasetQuestion) -> None:
            pool.add(await self.sample(question))
            report(sum(key in pool.entries for key in by_key), len(by_key))

        missing = [question for question in by_key.values() if question.key not in pool.entries]
        limit = timeout_at(deadline)
        try:
            async with limit:
                await for_each(missing, add, at_once)
        except TimeoutError:
            if not limit.expired():
                raise

    async def sample(self, question: DatasetQuestion) -> PoolEntry:
        """Return the greedy answer of one question, and its samples with their scores."""
        settings = self._settings
        parameters = {"n": settings.samples, "verifier": {"adapter": self._verifier} if self._verifier else "likelihood"}
        async with TaskGroup() as group:
            direct = group.create_task(self._chat(question, 0.0, "direct", {}, num_logprobs=FIRST_ALTERNATIVES))
            best_of_n = group.create_task(self._chat(question, settings.temperature, "best_of_n", parameters))
        task = best_of_n.result().task
        samples = sorted(best_of_n.result().result.candidates, key=lambda one: one.candidate.index)
        scored = [*direct.result().result.candidates, *samples]
        grades = await self.grade(question, [(task.read(one.candidate), one.candidate.is_complete) for one in scored])
        alternatives = settings.alternatives
        greedy, *others = [
            Sample(**generation_fields(one.candidate, is_right=is_right, alternatives=alternatives), score=self._score(one))
            for one, is_right in zip(scored, grades, strict=True)
        ]
        greedy = with_first_tokens(greedy, scored[0].candidate, settings.first_tokens)
        entry = PoolEntry(
            key=question.key, question=task.question, kind=task.kind, task=question.task, bin=question.bin, prefix=task.prefix,
            greedy=greedy, samples=tuple(others), verify_flops=best_of_n.result().verify_flops,
            thinking=marks_of(task.thinking),
        )  # fmt: skip
        return await self.backtrack(question, entry) if settings.attempts > 1 else entry

    async def backtrack(self, question: DatasetQuestion, entry: PoolEntry) -> PoolEntry:
        """Continue answers behind their false lines, as `strategies.checking.chains` does when a server backtracks."""
        encode, alternatives = self._service.encode, self._settings.alternatives
        recorded = await continued(entry, self._settings, encode, partial(self._continue, question))
        texts = [(one.answer_text, one.candidate.is_complete) for each in recorded for one in each]
        grades = iter(await self.grade(question, texts))
        kept = [[one.pooled(encode, is_right=next(grades), alternatives=alternatives) for one in each] for each in recorded]
        return with_continuations(entry, kept)

    async def search(self, question: DatasetQuestion, strategy: str, parameters: dict[str, Any]) -> SearchOutcome:
        """Run a strategy of the server on a question, and return its outcome."""
        run = await self._chat(question, self._settings.temperature, strategy, parameters)
        chosen = run.result.chosen[0].candidate
        [is_right] = await self.grade(question, [(run.task.read(chosen), chosen.is_complete)])
        return SearchOutcome(is_right, run.flops, run.num_branches)

    async def grade(self, question: DatasetQuestion, answers: Sequence[tuple[str, bool]]) -> list[bool]:
        """Return which answers are right. Each is a text and whether it is complete. Without labels none is."""
        if not self._settings.is_labelled:
            return [False] * len(answers)
        return await self._grader.grade(question, [Answer(text, is_complete) for text, is_complete in answers])

    def _score(self, one: ScoredCandidate) -> float | None:
        # without a verifier, `best_of_n` scored by likelihood, which the pool does not keep
        return None if self._verifier is None or one.score is None else round(one.score, DECIMALS)

    async def _chat(
        self, question: DatasetQuestion, temperature: float, strategy: str, parameters: dict[str, Any], num_logprobs: int = 0
    ) -> RequestRun:
        body = self._body(question)
        return await self._run(question, body, temperature, strategy=strategy, parameters=parameters, num_logprobs=num_logprobs)

    def _body(self, question: DatasetQuestion) -> dict[str, Any]:
        messages = [message.model_dump() for message in question.messages]
        return {"messages": messages, "max_tokens": self._settings.max_tokens}

    async def with_model(self, question: DatasetQuestion, do: Callable[[Task, Model], Awaitable[T]]) -> T:
        """Return what `do` returns of a question, as strategies receive it, and the model that answers it."""
        return await self._service.with_model(
            self._body(question), do, request_id=f"calibrate-{question.key}", question=question.messages[-1].content,
            kind=kind_of(question), adapter=self._adapter,
        )  # fmt: skip

    async def _continue(self, question: DatasetQuestion, draw: Draw) -> Candidate:
        """Generate one continuation of a prompt with the beginning of its answer."""
        body = {"prompt": list(draw.prefix), "max_tokens": draw.max_tokens}
        temperature = self._settings.temperature if draw.temperature is None else draw.temperature
        run = await self._run(question, body, temperature)
        return run.result.candidates[0].candidate

    async def _run(
        self,
        question: DatasetQuestion,
        body: dict[str, Any],
        temperature: float,
        *,
        strategy: str = "direct",
        parameters: Mapping[str, Any] | None = None,
        num_logprobs: int = 0,
    ) -> RequestRun:
        run = await self._service.run(
            body, request_id=f"calibrate-{question.key}", question=question.messages[-1].content, kind=kind_of(question),
            temperature=temperature, adapter=self._adapter, strategy=strategy, parameters=parameters,
            num_logprobs=max(self._settings.alternatives, num_logprobs),
        )  # fmt: skip
        if run.exhausted_budget is not None:
            raise PoolRefused(f"a budget of the server cut an answer to {question.key}: {run.exhausted_budget}")
        return run
