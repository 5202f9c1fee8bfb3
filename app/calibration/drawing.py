"""Fills a pool: asks a service each question greedily and several times by sampling, many questions at once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.names import Ref
from adapters.training.data import Question
from adapters.training.sampling import Answer
from app.asks import Ask, Caller
from app.calibration.pool import DECIMALS, Drawn, How, Pool, Sample
from app.service import Service
from app.training.judging import Judging, kind_of
from strategies.base import Scored, Task


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What one request brought."""

    task: Task
    candidates: tuple[Scored, ...]
    verify_tokens: int
    verify_flops: int


class Drawer:
    """Draws what a pool wants.

    Args:
        adapter: of the service, that answers; None for the base model.
        judge: adapter of the service that scores samples, by name; None: nobody does.
        judging: knows right answers.

    """

    def __init__(self, service: Service, adapter: Ref | None, judge: str | None, judging: Judging, how: How) -> None:
        self._service = service
        self._adapter = adapter
        self._judge = judge
        self._judging = judging
        self._how = how

    async def fill(
        self, pool: Pool, questions: Sequence[Question], *, at_once: int, report: Callable[[int, int], None]
    ) -> None:
        """Draw for all questions that the pool does not have yet, each written when it is there."""
        wanted = {question.key: question for question in questions}
        missing = iter([question for question in wanted.values() if question.key not in pool.drawn])

        async def work() -> None:
            for question in missing:
                pool.add(await self.draw(question))
                report(sum(key in pool.drawn for key in wanted), len(wanted))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def draw(self, question: Question) -> Drawn:
        """One question: a greedy answer, and the samples with their verifier's scores."""
        how = self._how
        sampling = {"n": how.samples, "verifier": {"adapter": self._judge} if self._judge else "likelihood"}
        async with asyncio.TaskGroup() as group:
            alone = group.create_task(self._ask(question, 0.0, "direct", {}))
            many = group.create_task(self._ask(question, how.temperature, "best_of_n", sampling))
        greedy, sampled = alone.result(), many.result()
        task = sampled.task
        scored = [*greedy.candidates, *sorted(sampled.candidates, key=lambda one: one.candidate.index)]
        texts = [task.read(one.candidate) for one in scored]
        answers = [Answer(text, one.candidate.is_complete) for text, one in zip(texts, scored, strict=True)]
        is_right = await self._judging.judge(question, answers)
        has_score = self._judge is not None
        first, *others = [
            _sample(one, text, is_right=right, has_score=has_score)
            for one, text, right in zip(scored, texts, is_right, strict=True)
        ]
        return Drawn(
            key=question.key, question=task.question, kind=task.kind, task=question.task, bin=question.bin, prefix=task.prefix,
            greedy=first, samples=tuple(others), verify_tokens=sampled.verify_tokens, verify_flops=sampled.verify_flops,
        )  # fmt: skip

    async def _ask(self, question: Question, temperature: float, strategy: str, parameters: dict[str, Any]) -> _Drawing:
        messages = [message.model_dump() for message in question.messages]
        body = {"messages": messages, "temperature": temperature, "max_tokens": self._how.max_tokens}
        ask = Ask(
            id=f"calibrate-{question.key}", bodies=(body,), is_chat=True, question=question.messages[-1].content,
            num_chars=sum(len(message.content) for message in question.messages), adapter=self._adapter, strategy=strategy,
            parameters=parameters, kind=kind_of(question), temperature=temperature, num_logprobs=0,
        )  # fmt: skip
        async with self._service.open(ask, Caller("calibration")) as session:
            outcome = await session.run(lambda _number, _event: None)
            [result], meter = outcome.results, session.meter
            return _Drawing(session.tasks[0], result.candidates, meter.tokens["verified"], meter.flops["verify"])


def _sample(scored: Scored, text: str, *, is_right: bool, has_score: bool) -> Sample:
    candidate = scored.candidate
    score = scored.score if has_score else None
    return Sample(
        text=text,
        token_ids=candidate.token_ids,
        logprobs=tuple(round(entry.logprob, DECIMALS) for entry in candidate.logprobs),
        finish_reason=candidate.finish_reason,
        stop_reason=candidate.stop_reason,
        cached=candidate.cost.cached_tokens,
        is_right=is_right,
        score=None if score is None else round(score, DECIMALS),
    )
