"""A streamed response: the role at once, progress and tokens as they come, then the winner, `usage` and the `ponder` object."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from enum import Enum, auto
from typing import Any, NamedTuple

from app.api import replies
from app.api.errors import body_of
from app.api.shapes import ChoiceState, Shape
from app.api.sse import DONE, KEEP_ALIVE, event
from app.errors import first_error
from app.request import Outcome
from app.serving.session import Session
from strategies.core.results import Progress, TraceNode
from strategies.core.values import Delta

PROGRESS_INTERVAL_S = 0.25
"""The least seconds between two reports on the search. A search may make a thousand nodes a second, which nobody can follow."""


class SearchEvent(NamedTuple):
    """An event of the search for the prompt with this number."""

    prompt: int
    event: Delta | Progress


class Signal(Enum):
    """What the timer and the search report to the stream through its queue, besides events of the search."""

    SILENCE = auto()  # the timer ran out: send a comment if nothing else was sent meanwhile
    PROGRESS = auto()  # the progress that was held back may be sent now
    ENDED = auto()  # the search has ended, with a result or an error


class PendingProgress:
    """The progress that was not sent yet: the newest line, and the newest state of each node that has changed."""

    def __init__(self) -> None:
        self._text = ""
        self._nodes: dict[tuple[int, int], TraceNode] = {}
        self._is_empty = True

    def add(self, prompt: int, progress: Progress) -> bool:
        """Add progress, and return whether it is the first since the last `take`: then the caller must plan when to send it."""
        self._text = progress.text or self._text
        self._nodes |= {(prompt, node.id): node for node in progress.nodes}
        is_first, self._is_empty = self._is_empty, False
        return is_first

    def take(self) -> tuple[str, dict[tuple[int, int], TraceNode]]:
        """Return the line and the nodes by prompt and id, and start again with none."""
        text, nodes = self._text, self._nodes
        self._text, self._nodes, self._is_empty = "", {}, True
        return text, nodes


class ReplyStream:
    """The events of one streamed response.

    Args:
        session: the admitted request, which the stream runs.
        shape: of chat or of text completions.
        has_usage: whether the last chunk has `usage`.
        keep_alive: seconds without an event after which a comment is sent, so that proxies keep the connection open.

    """

    def __init__(self, session: Session, shape: Shape, *, has_usage: bool, keep_alive: float) -> None:
        self._session = session
        self._shape = shape
        self._has_usage = has_usage
        self._keep_alive = keep_alive
        self._envelope = replies.envelope(shape, session, is_chunk=True)
        self._queue: asyncio.Queue[SearchEvent | Signal] = asyncio.Queue()
        self._choices: dict[int, ChoiceState] = {}
        self._progress = PendingProgress()
        self._progress_sent_at = -PROGRESS_INTERVAL_S
        self._last_sent = asyncio.get_running_loop().time()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the whole stream.

        The HTTP status was sent before. So an error is sent as the last event before `[DONE]`, and is raised after that.
        """
        request = self._session.request
        for index in range(request.num_choices * len(self._session.rendered.tasks)):
            if (opening := self._shape.opening(index)) is not None:
                yield self._chunk(opening)
        if request.shows_nodes:
            yield self._extension(replies.ponder_opening(self._session))
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self._run())
                async for chunk in self._until_ended():
                    yield chunk
            for chunk in self._closing(running.result()):
                yield chunk
        except Exception as error:  # noqa: BLE001 - raised again after it was sent
            yield event(body_of(error)[1])
            yield DONE
            raise first_error(error) from None
        yield DONE

    async def _run(self) -> Outcome:
        try:
            return await self._session.run(lambda prompt, event: self._queue.put_nowait(SearchEvent(prompt, event)))
        finally:
            self._queue.put_nowait(Signal.ENDED)

    async def _until_ended(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        # One timer for the whole stream: a time-out around each token would cost as much as the token itself.
        timer = loop.call_later(self._keep_alive, self._queue.put_nowait, Signal.SILENCE)
        try:
            while (received := await self._queue.get()) is not Signal.ENDED:
                if received is Signal.SILENCE:
                    timer = loop.call_later(self._keep_alive, self._queue.put_nowait, Signal.SILENCE)
                    if loop.time() - self._last_sent < self._keep_alive:
                        continue
                self._last_sent = loop.time()
                for chunk in self._chunks_for(received):
                    yield chunk
            for chunk in self._progress_chunks():
                yield chunk
        finally:
            timer.cancel()

    def _chunks_for(self, received: SearchEvent | Signal) -> Iterator[bytes]:
        match received:
            case SearchEvent(prompt, Delta() as delta):
                if (choice := self._delta(prompt, delta.index, delta)) is not None:
                    yield self._chunk(choice)
            case SearchEvent(prompt, Progress() as progress):
                if self._progress.add(prompt, progress):
                    yield from self._send_or_plan_progress()
            case Signal.PROGRESS:
                yield from self._progress_chunks()
            case Signal.SILENCE:
                yield KEEP_ALIVE

    def _send_or_plan_progress(self) -> Iterator[bytes]:
        wait = self._progress_sent_at + PROGRESS_INTERVAL_S - self._last_sent
        if wait <= 0:
            yield from self._progress_chunks()
        else:
            asyncio.get_running_loop().call_later(wait, self._queue.put_nowait, Signal.PROGRESS)

    def _progress_chunks(self) -> Iterator[bytes]:
        """Yield the newest line of progress, and the nodes that have changed if the caller wants to see them."""
        text, nodes = self._progress.take()
        self._progress_sent_at = self._last_sent
        if text and (choice := self._shape.progress(text)) is not None:
            yield self._chunk(choice)
        if nodes and self._session.request.shows_nodes:
            yield self._extension({"nodes": [replies.node(prompt, node) for (prompt, _), node in nodes.items()]})

    def _delta(self, prompt: int, rank: int, delta: Delta) -> dict[str, Any] | None:
        index = prompt * self._session.request.num_choices + rank
        if index not in self._choices:
            rendered = self._session.rendered.prompts[prompt]
            self._choices[index] = ChoiceState(self._session.engine.parser(rendered), rendered)
        return self._shape.delta(self._session, index, delta, self._choices[index])

    def _closing(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield the answers that were not streamed while they were generated, then the `ponder` object and `usage`."""
        streamed = set(self._choices)
        for prompt, result in enumerate(outcome.results):
            for rank, scored in enumerate(result.chosen):
                if prompt * self._session.request.num_choices + rank not in streamed:
                    whole = scored.candidate
                    delta = Delta(rank, whole.text, whole.token_ids, whole.logprobs, whole.finish_reason, whole.stop_reason)
                    if (choice := self._delta(prompt, rank, delta)) is not None:
                        yield self._chunk(choice)
        ponder = replies.ponder_object(self._session, outcome)
        self._session.account.trace.finish(ponder)
        yield self._extension(ponder, **({"usage": replies.usage(self._session, outcome)} if self._has_usage else {}))

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return event({**self._envelope, "choices": [choice]})

    def _extension(self, ponder: dict[str, Any], **fields: Any) -> bytes:
        """Return a chunk without choices: OpenAI's clients skip it, ponder's own read its `ponder` object."""
        return event({**self._envelope, "choices": [], "ponder": ponder, **fields})
