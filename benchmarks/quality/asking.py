"""Asks a running server, several questions at a time, and goes on where an earlier start stopped.

Each run has an API key of its own, hence a prefix cache of its own: what one strategy left there saves nothing to the next. The examples
that all questions of a task share are read once for each run before anything is charged, as on a server that has been up for a while;
the question itself is charged to every run alike.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.quality.records import Log, Record, setup, shortened
from benchmarks.quality.runs import EXACT, Run
from benchmarks.quality.tasks import Question, Task

TEMPERATURE = 0.7
BLOCK = 10
"""So many questions are answered by every run before the next ones are begun, so that whatever is there can be compared."""

NUM_RETRIES = 20
MAX_FAILURES = 3
TIMEOUT_S = 1800


class ServerGone(Exception):
    """It does not answer any more."""


def body(model: str, task: Task, run: Run, question: Question) -> dict[str, Any]:
    """The request."""
    options = {key: question.verifier if value == EXACT else value for key, value in run.options.items()}
    return {
        "model": model,
        "messages": task.messages(question.text),
        "temperature": TEMPERATURE,
        "max_tokens": task.max_tokens,
        "seed": 1000 + question.number,
        "ponder": {"strategy": run.strategy, "answer": task.answer, **options},
        **run.fields,
    }


@dataclass(frozen=True)
class Work:
    """Questions of one task, the runs that answer them, and where their answers go."""

    task: Task
    runs: list[Run]
    questions: list[Question]
    log: Log

    def done(self) -> set[tuple[str, int]]:
        """What is answered already, as run and number of the question."""
        counted = self.log.read(self.task, self.runs)
        found = {(name, record.question) for name, records in counted.items() for record in records}
        total = len(self.runs) * len(self.questions)
        print(f"  {self.task.name}: {len(found)} answered before, up to {total - len(found)} to go", flush=True)
        return found


@dataclass
class Session:
    """One model's questions to one server.

    Attributes:
        keys: of the server, one for each run.
        deadline: on the monotonic clock; no question is begun after it.
        refused: runs that the server does not know how to do, with its words, and those that failed several times.

    """

    client: httpx.AsyncClient
    model: str
    keys: list[str]
    concurrency: int
    deadline: float
    refused: dict[str, str] = field(default_factory=dict)
    _failures: Counter[str] = field(default_factory=Counter)
    _warm: dict[tuple[str, str], "asyncio.Task[None]"] = field(default_factory=dict)

    async def answer(self, *work: Work) -> None:
        """Whatever is not answered yet, until the deadline: the first questions of all, then the next ones of all."""
        jobs = _jobs(work)

        async def ask() -> None:
            for one, number, run, question in jobs:
                if time.monotonic() > self.deadline:
                    return
                if run.name not in self.refused:
                    await self._one(one.task, number, run, question, one.log)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(ask())

    async def _one(self, task: Task, number: int, run: Run, question: Question, log: Log) -> None:
        headers = {"authorization": f"Bearer {self.keys[number % len(self.keys)]}"}
        await self._warm_up(task, run, headers)
        request = body(self.model, task, run, question)
        start = time.perf_counter()
        response = await self._post(request, headers)
        if response.status_code == 200:
            seconds = time.perf_counter() - start
            log.append(_record(task, run, question, seed=request["seed"], reply=response.json(), seconds=seconds))
        else:
            self._note_failure(task, run, question, response)

    def _note_failure(self, task: Task, run: Run, question: Question, response: httpx.Response) -> None:
        """What is refused is not asked again; what failed is asked again by the next start."""
        self._failures[run.name] += 1
        is_last = response.status_code == 400 or self._failures[run.name] >= MAX_FAILURES
        if run.name not in self.refused:
            says = f"{response.status_code} {response.text[:300]}"
            what = "skipped from here on" if is_last else f"question {question.number} skipped"
            print(f"  {task.name}, {run.name}: {what}: {says}", flush=True)
            if is_last:
                self.refused[run.name] = says

    async def _warm_up(self, task: Task, run: Run, headers: dict[str, str]) -> None:
        """Once for each run and task that has examples, whoever comes first; the others wait for it."""
        if not task.prompt:
            return

        async def read_examples() -> None:
            request = {"model": self.model, "messages": task.messages("-"), "max_tokens": 1, "ponder": {"strategy": "direct"}}
            (await self._post(request, headers)).raise_for_status()

        key = (task.name, run.name)
        if key not in self._warm:
            self._warm[key] = asyncio.create_task(read_examples())
        await self._warm[key]

    async def _post(self, request: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        for _ in range(NUM_RETRIES):
            try:
                response = await self.client.post("/v1/chat/completions", json=request, headers=headers, timeout=TIMEOUT_S)
            except httpx.TransportError as error:
                raise ServerGone(f"{type(error).__name__}: {error}") from error
            if response.status_code not in {429, 503}:
                return response
            await asyncio.sleep(float(response.headers.get("retry-after", 1)))
        raise ServerGone(f"it answered {response.status_code} {NUM_RETRIES} times: {response.text[:300]}")


def ask(url: str, batches: Iterable[Sequence[Work]], *, model: str, keys: list[str], concurrency: int, deadline: float) -> None:
    """One batch of tasks after another. Ends the process when the server is gone."""

    async def answer() -> None:
        limits = httpx.Limits(max_connections=concurrency)
        async with httpx.AsyncClient(base_url=url, limits=limits) as client:
            for work in batches:
                await Session(client, model, keys, concurrency, deadline).answer(*work)

    try:
        asyncio.run(answer())
    except* ServerGone as gone:
        sys.exit(f"the server is gone: {gone.exceptions[0]}; what was answered is kept, start again to go on")


def _jobs(work: Sequence[Work]) -> Iterator[tuple[Work, int, Run, Question]]:
    done = [one.done() for one in work]
    for start in range(0, max((len(one.questions) for one in work), default=0), BLOCK):
        for one, answered in zip(work, done, strict=True):
            for number, run in enumerate(one.runs):
                for question in one.questions[start : start + BLOCK]:
                    if (run.name, question.number) not in answered:
                        yield one, number, run, question


def _record(task: Task, run: Run, question: Question, *, seed: int, reply: dict[str, Any], seconds: float) -> Record:
    text = reply["choices"][0]["message"]["content"] or ""
    account = reply["ponder"]
    return Record(
        run=run.name,
        setup=setup(task, run),
        question=question.number,
        seed=seed,
        is_right=question.is_right(text),
        text=shortened(text),
        flops=account["flops"]["total"],
        saved=account["flops"]["saved_by_cache"],
        tokens=account["tokens"]["decoded"],
        verified=account["tokens"]["verified"],
        seconds=round(seconds, 3),
        stop_reason=account["stop_reason"],
        task=task.name,
        bin=task.bin,
    )
