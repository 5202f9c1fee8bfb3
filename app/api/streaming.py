"""A streamed reply of chat and text completions: OpenAI's chunks, with the `ponder` object on the last chunk of the last answer."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from app.api import replies
from app.api.errors import body_of
from app.api.ponder_options import ProgressForm
from app.api.reply_events import ReplyDelta, ReplyEnd, ReplyEvent, ReplyEvents, ReplyProgress, Silence
from app.api.sampling import StreamOptions
from app.api.shapes import ChoiceState, Shape
from app.api.sse import DONE, KEEP_ALIVE, comment, event
from app.request import Outcome
from app.serving.session import Session


class ReplyStream:
    """Writes the chunks of one streamed reply.

    Each chunk has a choice, but the one with the `usage` that the caller asked for: OpenAI's clients rely on it.

    Args:
        session: the admitted request.
        shape: of chat or of text completions.
        options: whether `usage` is sent at the end, or with each chunk too.
        progress: how the progress of a search is told.

    """

    def __init__(self, session: Session, shape: Shape, options: StreamOptions, progress: ProgressForm) -> None:
        self._session = session
        self._shape = shape
        self._options = options
        self._progress = progress
        self._envelope = replies.envelope(shape, session, is_chunk=True)
        if options.include_usage or options.continuous_usage_stats:
            self._envelope["usage"] = None
        self._opened: set[int] = set()
        self._choices: dict[int, ChoiceState] = {}
        self._num_tokens = 0
        self._last: dict[str, Any] | None = None

    async def events(self, reply: ReplyEvents) -> AsyncIterator[bytes]:
        """Yield the whole stream.

        The HTTP status was sent before. So an error is sent as the last event before `[DONE]`, and is raised after that.
        """
        if self._session.request.shows_nodes:
            for chunk in self._opening(0):
                yield chunk
            yield self._chunk(self._shape.empty(), ponder=replies.ponder_opening(self._session))
        try:
            async with aclosing(reply()) as events:  # type: ignore[type-var] # an async generator
                async for one in events:
                    for chunk in self._chunks_for(one):
                        yield chunk
        except Exception as error:
            yield event(body_of(error)[1])
            yield DONE
            raise
        yield DONE

    def _chunks_for(self, one: ReplyEvent) -> Iterator[bytes]:
        match one:
            case ReplyDelta():
                yield from self._delta_chunks(one)
            case ReplyProgress():
                yield from self._progress_chunks(one)
            case Silence():
                yield KEEP_ALIVE
            case ReplyEnd(outcome):
                yield from self._closing(outcome)

    def _opening(self, choice: int) -> Iterator[bytes]:
        """Yield the role of a choice, before anything else of it."""
        if choice in self._opened:
            return
        self._opened.add(choice)
        if (opening := self._shape.opening(choice)) is not None:
            yield self._chunk(opening, **self._shape.prompt_fields(self._session))

    def _delta_chunks(self, one: ReplyDelta) -> Iterator[bytes]:
        """Yield new text. The last chunk of a choice is held back, since it may be the last one of the stream."""
        self._num_tokens += len(one.delta.token_ids)
        if (state := self._choices.get(one.choice)) is None:
            state = self._choices[one.choice] = self._state(one.prompt)
        yield from self._opening(one.choice)
        choice = self._shape.delta(self._session, one.choice, one.delta, state)
        if choice is None:
            return
        if not one.delta.is_last:
            yield self._chunk(choice)
        else:
            if self._last is not None:
                yield self._chunk(self._last)
            self._last = choice

    def _state(self, prompt: int) -> ChoiceState:
        """Return the state of a choice at its first text. Only now it is certain which model answers."""
        self._envelope["model"] = self._session.model
        rendered = self._session.rendered.prompts[prompt]
        return ChoiceState(self._session.engine.parser(rendered), rendered, prompt)

    def _progress_chunks(self, progress: ReplyProgress) -> Iterator[bytes]:
        if progress.text and self._progress == "comments":
            yield comment(progress.text)
        if progress.text and self._progress == "reasoning" and (choice := self._shape.progress(progress.text)) is not None:
            yield from self._opening(0)
            yield self._chunk(choice)
        if progress.nodes and self._session.request.shows_nodes:
            yield self._chunk(self._shape.empty(), ponder={"nodes": replies.nodes(progress.nodes)})

    def _closing(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield the last chunk of the last answer with the `ponder` object, then `usage` if it is wanted."""
        ponder = replies.finish_trace(self._session, outcome)
        yield self._chunk(self._last or self._shape.empty(), ponder=ponder)
        if self._options.include_usage:
            yield event({**self._envelope, "choices": [], "usage": replies.usage(self._session, outcome)})

    def _chunk(self, choice: dict[str, Any], **fields: Any) -> bytes:
        if self._options.continuous_usage_stats:
            fields["usage"] = self._usage_so_far()
        return event({**self._envelope, "choices": [choice], **fields})

    def _usage_so_far(self) -> dict[str, int]:
        prompt = self._session.rendered.num_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._num_tokens,
            "total_tokens": prompt + self._num_tokens,
        }
