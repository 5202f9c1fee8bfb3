"""The two shapes of a choice: OpenAI's `chat.completion` and `text_completion`, whole and as chunks of a stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.api.tools import with_function_call
from app.engine.base import Prompt, ReplyParser
from app.serving.session import Session
from strategies.core.values import Candidate, Delta, TokenLogprob


@dataclass(slots=True)
class ChoiceState:
    """What a stream keeps of one choice between its deltas.

    Attributes:
        parser: splits the text into content, reasoning and tool calls.
        has_calls: whether a tool call was sent.
        num_chars: characters that were sent, an echoed prompt included.

    """

    parser: ReplyParser
    prompt: Prompt
    has_calls: bool = False
    num_chars: int = 0


class Shape(Protocol):
    """What differs between `chat.completion` and `text_completion`."""

    id_prefix: str
    object: str
    chunk_object: str

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """Return a whole choice. `number` is the position of its prompt, `index` the position of the choice in the whole response."""
        ...

    def opening(self, index: int) -> dict[str, Any] | None:
        """Return the chunk of a choice that comes before its first text; None where there is none."""
        ...

    def empty(self) -> dict[str, Any]:
        """Return a chunk of the first choice without anything new, for fields beside the choices."""
        ...

    def delta(self, session: Session, index: int, delta: Delta, state: ChoiceState) -> dict[str, Any] | None:
        """Return the choice of a chunk with newly generated text; None while there is nothing to show, as inside a tool call."""
        ...

    def progress(self, text: str) -> dict[str, Any] | None:
        """Return the choice of a chunk with a line about the search; None where the shape has no field for it."""
        ...


class ChatShape:
    """`chat.completion`.

    Args:
        has_functions: whether a call is in OpenAI's former form, `function_call`, as the request's tools were.
        has_reasoning: whether the caller wants to see reasoning.

    """

    id_prefix = "chatcmpl-"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, *, has_functions: bool = False, has_reasoning: bool = True) -> None:
        self._has_functions = has_functions
        self._has_reasoning = has_reasoning

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """Return a choice with a whole message, its tool calls parsed."""
        prompt = session.rendered.prompts[number]
        parser = session.engine.parser(prompt)
        fields = self._visible(parser.parse(candidate.text, candidate.token_ids, is_cut=not candidate.is_complete))
        choice: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "content": None, "refusal": None, **self._with_calls(fields)},
            "logprobs": _chat_logprobs(candidate.logprobs, session.request.num_logprobs),
            "finish_reason": self._finish(session, candidate.finish_reason, has_calls=bool(fields.get("tool_calls"))),
        }
        return {**choice, "stop_reason": candidate.stop_reason} if candidate.stop_reason is not None else choice

    def opening(self, index: int) -> dict[str, Any] | None:
        """Return a delta with the role and no content."""
        return _chunk_choice(index, {"role": "assistant", "content": ""})

    def empty(self) -> dict[str, Any]:
        """Return a delta with nothing."""
        return _chunk_choice(0, {})

    def delta(self, session: Session, index: int, delta: Delta, state: ChoiceState) -> dict[str, Any] | None:
        """Return a delta with content, tool calls and log-probabilities."""
        is_last = delta.finish_reason is not None
        fields = state.parser.feed(
            delta.text, delta.token_ids, is_last=is_last, is_cut=delta.finish_reason not in (None, "stop")
        )
        fields = fields and self._visible(fields)
        state.has_calls = state.has_calls or bool(fields and fields.get("tool_calls"))
        logprobs = _chat_logprobs(delta.logprobs, session.request.num_logprobs)
        if not fields and logprobs is None and delta.finish_reason is None:
            return None
        finish = self._finish(session, delta.finish_reason, has_calls=state.has_calls)
        choice = _chunk_choice(index, self._with_calls(fields or {}), finish, logprobs)
        return {**choice, "stop_reason": delta.stop_reason} if delta.stop_reason is not None else choice

    def progress(self, text: str) -> dict[str, Any] | None:
        """Return the line as `reasoning`, which clients show apart from the answer."""
        return _chunk_choice(0, {"reasoning": text + "\n"}) if self._has_reasoning else None

    def _visible(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a message that the caller wants to see."""
        return fields if self._has_reasoning else {name: value for name, value in fields.items() if name != "reasoning"}

    def _with_calls(self, fields: dict[str, Any]) -> dict[str, Any]:
        return with_function_call(fields) if self._has_functions else fields

    def _finish(self, session: Session, reason: str | None, *, has_calls: bool) -> str | None:
        """Return OpenAI's finish reason: of an answer with a call, that it has one, unless the caller named the tool."""
        if reason == "stop" and has_calls and not _names_tool(session):
            return "function_call" if self._has_functions else "tool_calls"
        return _finish(reason)


class CompletionShape:
    """`text_completion`."""

    id_prefix = "cmpl-"
    object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, *, echo: bool) -> None:
        self._echo = echo

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """Return a choice with the text, behind the prompt's if the caller wants it echoed."""
        text = session.rendered.prompts[number].text if self._echo else ""
        return {
            "index": index,
            "text": text + candidate.text,
            "logprobs": _completion_logprobs(candidate.logprobs, session.request.num_logprobs, len(text)),
            "finish_reason": _finish(candidate.finish_reason),
            "stop_reason": candidate.stop_reason,
        }

    def opening(self, index: int) -> dict[str, Any] | None:  # noqa: ARG002 - the protocol's signature
        """Return None: a text completion has no role."""
        return None

    def empty(self) -> dict[str, Any]:
        """Return no text."""
        return {"index": 0, "text": "", "logprobs": None, "finish_reason": None}

    def delta(self, session: Session, index: int, delta: Delta, state: ChoiceState) -> dict[str, Any] | None:
        """Return the new text, the first time behind an echoed prompt."""
        text = state.prompt.text + delta.text if self._echo and not state.num_chars else delta.text
        offset = state.num_chars + len(text) - len(delta.text)
        state.num_chars += len(text)
        logprobs = _completion_logprobs(delta.logprobs, session.request.num_logprobs, offset)
        finish = _finish(delta.finish_reason)
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return {**choice, "stop_reason": delta.stop_reason} if finish is not None else choice

    def progress(self, text: str) -> dict[str, Any] | None:  # noqa: ARG002 - the protocol's signature
        """Return None: a text completion has no field for it."""
        return None


def _chunk_choice(
    index: int, delta: Mapping[str, Any], finish: str | None = None, logprobs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _names_tool(session: Session) -> bool:
    """Return whether the caller named the tool to call. OpenAI then ends the choice with "stop", and not with "tool_calls"."""
    return isinstance(session.request.bodies[0].get("tool_choice"), dict)


def _finish(reason: str | None) -> str | None:
    """Return OpenAI's finish reason. It has none for an answer that a budget, a deadline or a search ended: that is "length"."""
    return "length" if reason in ("abort", "step") else reason


def _chat_logprobs(entries: Sequence[TokenLogprob], num_top: int | None) -> dict[str, Any] | None:
    if num_top is None or not entries:
        return None
    content = []
    for entry in entries:
        top = [_token(token, logprob) for token, logprob in entry.top[:num_top]]
        content.append({**_token(entry.token, entry.logprob), "top_logprobs": top})
    return {"content": content, "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    # JSON has no infinity. OpenAI's own API sends -9999 for a token that is too improbable.
    return {"token": token, "logprob": max(logprob, -9999.0), "bytes": list(token.encode())}


def _completion_logprobs(entries: Sequence[TokenLogprob], num_top: int | None, offset: int) -> dict[str, Any] | None:
    if num_top is None or not entries:
        return None
    offsets = []
    for entry in entries:
        offsets.append(offset)
        offset += len(entry.token)
    return {
        "tokens": [entry.token for entry in entries],
        "token_logprobs": [max(entry.logprob, -9999.0) for entry in entries],
        "top_logprobs": [{token: max(logprob, -9999.0) for token, logprob in entry.top[:num_top]} for entry in entries],
        "text_offset": offsets,
    }
