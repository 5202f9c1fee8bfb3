"""Fills a pool: asks a service each question greedily and several times by sampling, many questions at once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from adapters.concurrency import for_each
from adapters.names import AdapterRef
from adapters.training.data import DatasetQuestion
from adapters.training.ports import Answer
from app.lab.calibration.pool import DECIMALS, Drawn, How, Mended, Pool, PoolRefused, Sample
from app.lab.calibration.recording import Later, Recorder, candidate_of
from app.lab.grading import AnswerGrader, kind_of
from app.metering.meter import Meter
from app.request import Caller, InferenceRequest
from app.serving.service import Service
from strategies.checking.chains import Writer
from strategies.core.ports import ignore_events
from strategies.core.results import Result
from strategies.core.values import AnswerKind, Candidate, ScoredCandidate, Task


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What one request brought."""

    task: Task
    result: Result
    meter: Meter


@dataclass(frozen=True, slots=True)
class Searched:
    """What a strategy brought on one question, and what it took."""

    is_right: bool
    flops: int
    branches: int


class Drawer:
    """Draws what a pool wants.

    Args:
        adapter: of the service, that answers; None for the base model.
        judge: adapter of the service that scores samples, by name; None: nobody does.
        judging: knows right answers.

    """

    def __init__(
        self, service: Service, adapter: AdapterRef | None, judge: str | None, judging: AnswerGrader, how: How
    ) -> None:
        self._service = service
        self._adapter = adapter
        self._judge = judge
        self._judging = judging
        self._how = how

    async def fill(
        self, pool: Pool, questions: Sequence[DatasetQuestion], *, at_once: int, report: Callable[[int, int], None]
    ) -> None:
        """Draw for all questions that the pool does not have yet, each written when it is there."""
        wanted = {question.key: question for question in questions}

        async def draw(question: DatasetQuestion) -> None:
            pool.add(await self.draw(question))
            report(sum(key in pool.drawn for key in wanted), len(wanted))

        await for_each([question for question in wanted.values() if question.key not in pool.drawn], draw, at_once)

    async def draw(self, question: DatasetQuestion) -> Drawn:
        """One question: a greedy answer, and the samples with their verifier's scores."""
        how = self._how
        sampling = {"n": how.samples, "verifier": {"adapter": self._judge} if self._judge else "likelihood"}
        async with asyncio.TaskGroup() as group:
            alone = group.create_task(self._chat(question, 0.0, "direct", {}))
            many = group.create_task(self._chat(question, how.temperature, "best_of_n", sampling))
        greedy, sampled = alone.result(), many.result()
        task = sampled.task
        scored = [*greedy.result.candidates, *sorted(sampled.result.candidates, key=lambda one: one.candidate.index)]
        is_right = await self.judge(question, [(task.read(one.candidate), one.candidate.is_complete) for one in scored])
        first, *others = [
            Sample(**_piece(one.candidate, is_right=right), score=self._score(one))
            for one, right in zip(scored, is_right, strict=True)
        ]
        drawn = Drawn(
            key=question.key, question=task.question, kind=task.kind, task=question.task, bin=question.bin, prefix=task.prefix,
            greedy=first, samples=tuple(others), verify_flops=sampled.meter.flops["verify"],
        )  # fmt: skip
        return await self.mend(question, drawn) if how.attempts > 1 else drawn

    async def mend(self, question: DatasetQuestion, drawn: Drawn) -> Drawn:
        """Go on with its answers where a line is false, as `strategies.checking.chains` does it."""
        how = self._how
        encode = self._service.engine.encode
        task = Task(question=drawn.question, prefix=drawn.prefix, kind=AnswerKind(drawn.kind), encode=encode)
        samples = [drawn.greedy, *drawn.samples[: how.mended]]
        recorder = Recorder([candidate_of(one) for one in samples], partial(self._go_on, question), how)
        recorder.writer = Writer(task, recorder, ignore_events, most=len(samples), first=0.0)
        await recorder.writer.write(len(samples), how.attempts)
        texts = [text for pieces in recorder.pieces for text in pieces]
        verdicts = iter(await self.judge(question, [(one.text, one.candidate.is_complete) for one in texts]))
        mended = [
            sample.model_copy(update={"later": tuple(_mended(one, encode, is_right=next(verdicts)) for one in pieces)})
            for sample, pieces in zip(samples, recorder.pieces, strict=True)
        ]
        return drawn.model_copy(update={"greedy": mended[0], "samples": (*mended[1:], *drawn.samples[how.mended :])})

    async def search(self, question: DatasetQuestion, strategy: str, parameters: dict[str, Any]) -> Searched:
        """Run any strategy on it."""
        ran = await self._chat(question, self._how.temperature, strategy, parameters)
        chosen = ran.result.chosen[0].candidate
        [is_right] = await self.judge(question, [(ran.task.read(chosen), chosen.is_complete)])
        return Searched(is_right, ran.meter.total_flops, ran.meter.branches["drawn"])

    async def judge(self, question: DatasetQuestion, texts: Sequence[tuple[str, bool]]) -> list[bool]:
        """Which answers are right; each with whether it is whole."""
        return await self._judging.grade(question, [Answer(text, is_whole) for text, is_whole in texts])

    def _score(self, one: ScoredCandidate) -> float | None:
        return None if self._judge is None or one.score is None else round(one.score, DECIMALS)

    async def _chat(self, question: DatasetQuestion, temperature: float, strategy: str, parameters: dict[str, Any]) -> _Drawing:
        messages = [message.model_dump() for message in question.messages]
        body = {"messages": messages, "max_tokens": self._how.max_tokens}
        return await self._ask(question, body, temperature, strategy, parameters, is_chat=True)

    async def _go_on(
        self, question: DatasetQuestion, token_ids: Sequence[int], left: int, temperature: float | None
    ) -> Candidate:
        """One continuation of a prompt and what was said after it."""
        body = {"prompt": list(token_ids), "max_tokens": left}
        temperature = self._how.temperature if temperature is None else temperature
        drawing = await self._ask(question, body, temperature, "direct", {}, is_chat=False)
        return drawing.result.candidates[0].candidate

    async def _ask(
        self,
        question: DatasetQuestion,
        body: dict[str, Any],
        temperature: float,
        strategy: str,
        parameters: dict[str, Any],
        *,
        is_chat: bool,
    ) -> _Drawing:
        request = InferenceRequest(
            id=f"calibrate-{question.key}", bodies=({**body, "temperature": temperature},), is_chat=is_chat,
            question=question.messages[-1].content, num_chars=sum(len(message.content) for message in question.messages),
            adapter=self._adapter, strategy=strategy, parameters=parameters, kind=kind_of(question), temperature=temperature,
            num_logprobs=0,
        )  # fmt: skip
        async with self._service.open(request, Caller("calibration")) as session:
            outcome = await session.run(lambda _number, _event: None)
            [result], meter = outcome.results, session.meter
            if meter.stopped is not None:
                raise PoolRefused(f"a budget of the server cut an answer to {question.key}: {meter.stopped}")
            return _Drawing(session.rendered.tasks[0], result, meter)


def _mended(one: Later, encode: Callable[[str], tuple[int, ...]], *, is_right: bool) -> Mended:
    given_ids = encode(one.given) if one.given else ()
    piece = _piece(one.candidate, is_right=is_right)
    return Mended(**piece, said=len(one.said.token_ids), given=one.given, given_ids=given_ids)


def _piece(candidate: Candidate, *, is_right: bool) -> dict[str, Any]:
    return {
        "text": candidate.text,
        "token_ids": candidate.token_ids,
        "lengths": tuple(len(entry.token) for entry in candidate.logprobs),
        "logprobs": tuple(round(entry.logprob, DECIMALS) for entry in candidate.logprobs),
        "finish_reason": candidate.finish_reason,
        "stop_reason": candidate.stop_reason,
        "cached": candidate.cost.cached_tokens,
        "is_right": is_right,
    }
