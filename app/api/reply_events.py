"""What happens in a streamed reply, in the order in which a client is told. The streams of every API are written from these events."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from app.errors import first_error_only
from app.request import Outcome
from app.serving.session import Session
from strategies.core.results import Progress, TraceNode
from strategies.core.values import Candidate, Delta

PROGRESS_INTERVAL_S = 0.25
"""The least seconds between two reports on the search. A search may make a thousand nodes a second, which nobody can follow."""


@dataclass(frozen=True, slots=True)
class ReplyDelta:
    """Newly generated text of a choice.

    Attributes:
        prompt: the position of the prompt in the request, from 0.
        choice: the position of the choice in the whole reply, from 0.

    """

    prompt: int
    choice: int
    delta: Delta


@dataclass(frozen=True, slots=True)
class ReplyProgress:
    """What the search did: the newest line about it, and the newest state of each node that has changed, with its prompt's position.

    Attributes:
        best: the newest answer that the search would return now, where it tells one.

    """

    text: str
    nodes: tuple[tuple[int, TraceNode], ...]
    best: Candidate | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing was sent for as long as a proxy may wait."""


@dataclass(frozen=True, slots=True)
class ReplyEnd:
    """The last event. Before it, each choice had at least one `ReplyDelta`, and its last one had a finish reason."""

    outcome: Outcome


ReplyEvent = ReplyDelta | ReplyProgress | Silence | ReplyEnd


class _SearchEvent(NamedTuple):
    """An event of the search for the prompt with this number."""

    prompt: int
    event: Delta | Progress


class _Signal(Enum):
    """What the timer and the search report through the queue, besides events of the search."""

    SILENCE = auto()  # the timer ran out
    PROGRESS = auto()  # the progress that was held back may be sent now
    ENDED = auto()  # the search has ended, with a result or an error


class PendingProgress:
    """The progress that was not sent yet: the newest line, and the newest state of each node that has changed."""

    def __init__(self) -> None:
        self._text = ""
        self._nodes: dict[tuple[int, int], TraceNode] = {}
        self._best: Candidate | None = None
        self._is_empty = True

    def add(self, prompt: int, progress: Progress) -> bool:
        """Add progress, and return whether it is the first since the last `take`: then the caller must plan when to send it."""
        self._text = progress.text or self._text
        self._nodes |= {(prompt, node.id): node for node in progress.nodes}
        self._best = progress.best or self._best
        is_first, self._is_empty = self._is_empty, False
        return is_first

    def take(self) -> ReplyProgress:
        """Return the line and the nodes, and start again with none."""
        nodes = tuple((prompt, node) for (prompt, _), node in self._nodes.items())
        taken = ReplyProgress(self._text, nodes, self._best)
        self._text, self._nodes, self._best, self._is_empty = "", {}, None, True
        return taken


class ReplyEvents:
    """Runs an admitted request and tells what happens.

    Args:
        session: the admitted request.
        keep_alive: seconds without an event after which there is a `Silence`.

    """

    def __init__(self, session: Session, keep_alive: float) -> None:
        self._session = session
        self._keep_alive = keep_alive
        self._queue: asyncio.Queue[_SearchEvent | _Signal] = asyncio.Queue()
        self._streamed: set[int] = set()
        self._progress = PendingProgress()
        self._progress_sent_at = -PROGRESS_INTERVAL_S
        self._last_sent = asyncio.get_running_loop().time()

    async def __call__(self) -> AsyncIterator[ReplyEvent]:
        """Yield all events. Raises the error that ended the search; closing the iterator cancels every branch."""
        with first_error_only():
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self._run())
                async for event in self._until_ended():
                    yield event
        outcome = running.result()
        for event in self._unstreamed(outcome):
            yield event
        yield ReplyEnd(outcome)

    async def _run(self) -> Outcome:
        try:
            return await self._session.run(lambda prompt, event: self._queue.put_nowait(_SearchEvent(prompt, event)))
        finally:
            self._queue.put_nowait(_Signal.ENDED)

    async def _until_ended(self) -> AsyncIterator[ReplyEvent]:
        loop = asyncio.get_running_loop()
        # One timer for the whole stream: a time-out around each token would cost as much as the token itself.
        timer = loop.call_later(self._keep_alive, self._queue.put_nowait, _Signal.SILENCE)
        try:
            while (received := await self._queue.get()) is not _Signal.ENDED:
                if received is _Signal.SILENCE:
                    timer = loop.call_later(self._keep_alive, self._queue.put_nowait, _Signal.SILENCE)
                    if loop.time() - self._last_sent < self._keep_alive:
                        continue
                self._last_sent = loop.time()
                for event in self._events_for(received):
                    yield event
            for event in self._pending():
                yield event
        finally:
            timer.cancel()

    def _events_for(self, received: _SearchEvent | _Signal) -> Iterator[ReplyEvent]:
        match received:
            case _SearchEvent(prompt, Delta() as delta):
                yield self._delta(prompt, delta)
            case _SearchEvent(prompt, Progress() as progress):
                if self._progress.add(prompt, progress):
                    yield from self._send_or_plan_progress()
            case _Signal.PROGRESS:
                yield from self._pending()
            case _Signal.SILENCE:
                yield Silence()

    def _send_or_plan_progress(self) -> Iterator[ReplyEvent]:
        wait = self._progress_sent_at + PROGRESS_INTERVAL_S - self._last_sent
        if wait <= 0:
            yield from self._pending()
        else:
            asyncio.get_running_loop().call_later(wait, self._queue.put_nowait, _Signal.PROGRESS)

    def _pending(self) -> Iterator[ReplyEvent]:
        self._progress_sent_at = self._last_sent
        progress = self._progress.take()
        if progress.text or progress.nodes:
            yield progress

    def _delta(self, prompt: int, delta: Delta) -> ReplyDelta:
        # A strategy that streams its answers gives as many for each prompt as the caller asked for.
        choice = prompt * self._session.request.num_choices + delta.index
        self._streamed.add(choice)
        return ReplyDelta(prompt, choice, delta)

    def _unstreamed(self, outcome: Outcome) -> Iterator[ReplyEvent]:
        """Yield the answers of a strategy that did not stream them while they were generated, each as one delta."""
        if self._streamed:
            return
        for prompt, choice, scored in outcome.choices():
            one = scored.candidate
            delta = Delta(choice, one.text, one.token_ids, one.logprobs, one.finish_reason, one.stop_reason)
            yield ReplyDelta(prompt, choice, delta)
