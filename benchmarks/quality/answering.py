"""Sends questions to a running server, several at a time, and resumes where an earlier start stopped.

Each run has its own API key, and with it its own prefix cache, so that one strategy saves nothing to the next one. The examples that all
questions of a task share are prefilled once for each run before anything is charged, as on a server that has run for a while. The
question itself is charged to every run.
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
"""The number of questions that all runs answer before the next ones begin, so that runs can be compared at any time."""

NUM_RETRIES = 20
MAX_FAILURES = 3
TIMEOUT_S = 1800


class ServerGone(Exception):
    """The server does not answer any more."""


def body(model: str, task: Task, run: Run, question: Question) -> dict[str, Any]:
    """Return the body of the request."""
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
    """The questions of one task, the runs that answer them, and the log of the answers."""

    task: Task
    runs: list[Run]
    questions: list[Question]
    log: Log

    def done(self) -> set[tuple[str, int]]:
        """Return what was answered before, as names of runs and numbers of questions."""
        counted = self.log.read(self.task, self.runs)
        found = {(name, record.question) for name, records in counted.items() for record in records}
        total = len(self.runs) * len(self.questions)
        print(f"  {self.task.name}: {len(found)} answered before, up to {total - len(found)} to go", flush=True)
        return found


@dataclass
class Session:
    """The requests of one model to one server.

    Attributes:
        keys: API keys of the server, one for each run.
        deadline: of the monotonic clock, after which no question is begun.
        refused: runs that the server refused or that failed several times, with the error.

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
        """Answer what was not answered before, until the deadline: the first questions of all tasks, then the next ones."""
        jobs = _jobs(work)

        async def work_on() -> None:
            for one, number, run, question in jobs:
                if time.monotonic() > self.deadline:
                    return
                if run.name not in self.refused:
                    await self._one(one.task, number, run, question, one.log)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(work_on())

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
        """Record a failure. A refused run is skipped from then on; a failed question is sent again by the next start."""
        self._failures[run.name] += 1
        is_last = response.status_code == 400 or self._failures[run.name] >= MAX_FAILURES
        if run.name not in self.refused:
            says = f"{response.status_code} {response.text[:300]}"
            what = "skipped from here on" if is_last else f"question {question.number} skipped"
            print(f"  {task.name}, {run.name}: {what}: {says}", flush=True)
            if is_last:
                self.refused[run.name] = says

    async def _warm_up(self, task: Task, run: Run, headers: dict[str, str]) -> None:
        """Prefill the examples of a task once for each run. The first request does it, and the others wait."""
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


def answer_all(
    url: str, batches: Iterable[Sequence[Work]], *, model: str, keys: list[str], concurrency: int, deadline: float
) -> None:
    """Answer one batch of tasks after another. Ends the process when the server does not answer any more."""

    async def answer() -> None:
        limits = httpx.Limits(max_connections=concurrency)
        async with httpx.AsyncClient(base_url=url, limits=limits) as client:
            for work in batches:
                await Session(client, model, keys, concurrency, deadline).answer(*work)

    try:
        asyncio.run(answer())
    except* ServerGone as gone:
        sys.exit(f"the server is gone: {gone.exceptions[0]}; the answers so far are kept; start again to resume")


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
        thinking=account["tokens"].get("thinking", 0),
    )
