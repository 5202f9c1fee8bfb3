"""Responses that run in the background: each is a task of the app, which nobody needs to wait for."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from app.api.reply_events import ReplyEvents, ReplyProgress, Silence
from app.api.responses.conversion import Converted
from app.api.responses.output import Event, OutputWriter
from app.api.responses.run import ResponseRun, failed
from app.api.responses.store import ResponseStore, Stored, with_stop
from app.api.sse import KEEP_ALIVE, named_event
from app.errors import Busy, QuotaExceeded
from app.request import Caller
from app.serving.answerer import Answerer
from strategies.core.results import TraceNode
from strategies.core.values import Candidate, Task

logger = logging.getLogger("ponder.api")

_KEEP_ALIVE_S = 1e9  # a job has no connection that silence could end


class Job:
    """One response in the background.

    Attributes:
        who: its caller.
        items: the conversation that it answers.
        is_cancelled: whether its caller cancelled it.
        has_begun: set when the task runs. A task that is cancelled before would keep nothing.
        task: what runs it.

    """

    task: asyncio.Task[None]

    def __init__(
        self, service: Answerer, who: Caller, items: list[dict[str, Any]], asked: Converted, response: dict[str, Any]
    ) -> None:
        self.who = who
        self.items = items
        self.is_cancelled = False
        self.has_begun = asyncio.Event()
        self._service = service
        self._asked = asked
        self._writer = OutputWriter(response)
        self._nodes: dict[int, TraceNode] = {}
        self._best: Candidate | None = None
        self._task: Task | None = None
        self._events = [named_event(event) for event in self._writer.open()]
        self._changed = asyncio.Event()
        self._is_told = False
        self._is_done = False

    async def run(self, store: ResponseStore) -> None:
        """Run to the end, and keep the response. It raises nothing: an error is the response's."""
        self.has_begun.set()
        try:
            try:
                await store.save(self.who.owner, Stored(self._writer.response, self.items))
                await self._run(store)
            except Exception as error:  # noqa: BLE001 - it is told in the response
                self._add(*failed(self._writer, error))
        except asyncio.CancelledError:
            self._writer.cancel()
            if not self.is_cancelled:
                self._writer.response.update(with_stop(self._writer.response))
        finally:
            try:
                await store.save(self.who.owner, Stored(self._writer.response, self.items, b"".join(self._events)))
            finally:
                self._is_done = True
                self._changed.set()

    async def _run(self, store: ResponseStore) -> None:
        while True:
            try:
                async with self._service.open(self._asked.request, self.who) as session:
                    [self._task] = session.rendered.tasks
                    events = ResponseRun(session, self._asked, self._writer).events(ReplyEvents(session, _KEEP_ALIVE_S))
                    async with aclosing(events):  # type: ignore[type-var] # an async generator
                        async for event in events:
                            self._take(event)
                            await self._tell_begin(store)
                    return
            except Busy as busy:  # it stays queued
                await asyncio.sleep(busy.retry_after)

    async def _tell_begin(self, store: ResponseStore) -> None:
        """Keep that the response is in progress, for those who ask another front end."""
        if not self._is_told and self._writer.response["status"] == "in_progress":
            self._is_told = True
            await store.save(self.who.owner, Stored(self._writer.response, self.items))

    def _take(self, event: Event | ReplyProgress | Silence) -> None:
        if isinstance(event, dict):
            self._add(event)
        elif isinstance(event, ReplyProgress):
            self._nodes |= {node.id: node for _, node in event.nodes}
            self._best = event.best or self._best

    def _add(self, *events: Event) -> None:
        self._events += [named_event(event) for event in events]
        self._changed.set()
        self._changed = asyncio.Event()

    def snapshot(self) -> dict[str, Any]:
        """Return the response as it is. While a search runs, its output is the best answer so far."""
        response = self._writer.response
        if response["status"] != "in_progress" or not (text := self._best_so_far()):
            return response
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        best = {"id": "msg_best_so_far", "type": "message", "role": "assistant", "status": "in_progress", "content": [part]}
        return {**response, "output": [*(item for item in response["output"] if item["type"] == "reasoning"), best]}

    def _best_so_far(self) -> str:
        """Return what the best answer so far says, without its reasoning; empty without one."""
        if self._task is None:
            return ""
        if self._best is not None:
            return self._task.read(self._best)
        text, finish = self._best_path()
        return self._task.read(Candidate(0, text, self._task.encode(text), finish))

    def _best_path(self) -> tuple[str, str]:
        """Return the text of the best path through the search's tree, and how it ended."""
        if not self._nodes:
            return "", "abort"
        best = max(
            self._nodes.values(), key=lambda node: (node.finish_reason == "stop", node.value or node.score or 0, node.id)
        )
        steps, finish = [best.text], best.finish_reason or "abort"
        while best.parent is not None and best.parent in self._nodes:
            best = self._nodes[best.parent]
            steps.append(best.text)
        return "".join(reversed(steps)), finish

    async def follow(self, after: int, keep_alive: float) -> AsyncIterator[bytes]:
        """Yield the events behind the one with the sequence number `after`, those to come too."""
        position = after + 1
        while True:
            while position < len(self._events):
                position += 1
                yield self._events[position - 1]
            if self._is_done:
                return
            try:
                await asyncio.wait_for(self._changed.wait(), keep_alive)
            except TimeoutError:
                yield KEEP_ALIVE


class CancelMessage(BaseModel):
    """Asks the front end that runs a response to cancel it: the response's id, and the owner of the key that wants it."""

    cancel: Annotated[str, Field(max_length=256)]
    owner: Annotated[str, Field(max_length=64)]


class Jobs:
    """The responses that run in the background.

    Args:
        store: keeps them.
        max_per_key: the most that one key may have at the same time.

    """

    def __init__(self, store: ResponseStore, max_per_key: int) -> None:
        self._store = store
        self._max_per_key = max_per_key
        self._jobs: dict[tuple[str, str], Job] = {}
        self._group: asyncio.TaskGroup

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Jobs"]:
        """Run jobs until the end of the block, which ends them all."""
        async with asyncio.TaskGroup() as self._group:
            try:
                yield self
            finally:
                for job in self._jobs.values():
                    job.task.cancel()

    def check_room(self, who: Caller) -> None:
        """Raise `QuotaExceeded` where this key has as many jobs as it may."""
        if sum(owner == who.owner for owner, _ in self._jobs) >= self._max_per_key:
            message = f"This key already has {self._max_per_key} responses in the background, as many as it may."
            raise QuotaExceeded(message, retry_after=5.0)

    def start(self, response_id: str, job: Job) -> None:
        """Run a response. Raises `QuotaExceeded`."""
        self.check_room(job.who)
        key = (job.who.owner, response_id)
        self._jobs[key] = job
        job.task = self._group.create_task(job.run(self._store))
        job.task.add_done_callback(lambda _task: self._jobs.pop(key, None))

    def find(self, who: Caller, response_id: str) -> Job | None:
        """Return the job with this id of this caller; None where it has ended."""
        return self._jobs.get((who.owner, response_id))

    def receive(self, message: bytes) -> None:
        """Cancel the job that another front end was asked to cancel. Anything else is left out."""
        try:
            wanted = CancelMessage.model_validate_json(message)
        except ValidationError:
            logger.warning("a message of another front end is left out: it is not well-formed")
            return
        if (job := self._jobs.get((wanted.owner, wanted.cancel))) is not None:
            self._group.create_task(self.stop(job))

    async def stop(self, job: Job) -> None:
        """Cancel a job, and wait until every branch has ended."""
        await job.has_begun.wait()
        job.is_cancelled = True
        job.task.cancel()
        await asyncio.wait((job.task,))
