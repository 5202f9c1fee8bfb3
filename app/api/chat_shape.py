"""The shape of a choice of `chat.completion`, whole and as chunks of a stream."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.api.logprobs import chat_logprobs
from app.api.reasoning import Shown, is_answer, without_reasoning
from app.api.shapes import NO_DETAILS, ChoiceState, Details, finish_reason
from app.api.tools import with_function_call
from app.serving.session import Session
from strategies.core.values import Candidate, Delta, TokenLogprob


class ChatShape:
    """`chat.completion`.

    Args:
        details: what the caller wants to see besides.
        echoed: the text of the message that the answer continues, empty where it is not repeated.
        has_functions: whether a call is in OpenAI's former form, `function_call`, as the request's tools were.
        has_reasoning: whether the caller wants to see reasoning.

    """

    id_prefix = "chatcmpl-"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(
        self, details: Details = NO_DETAILS, echoed: str = "", *, has_functions: bool = False, has_reasoning: bool = True
    ) -> None:
        self._details = details
        self._echoed = echoed
        self._has_functions = has_functions
        self._has_reasoning = has_reasoning

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """Return a choice with a whole message, its tool calls parsed."""
        prompt = session.rendered.prompts[number]
        parser = session.engine.parser(prompt)
        parsed = parser.parse(candidate.text, candidate.token_ids, is_cut=not candidate.is_complete)
        fields, token_ids, logprobs = self._shown(parsed, candidate)
        if self._echoed:
            fields = {**fields, "content": self._echoed + (fields.get("content") or "")}
        choice: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "content": None, "refusal": None, **self._with_calls(fields)},
            "logprobs": self._logprobs(session, logprobs),
            "finish_reason": self._finish(session, candidate.finish_reason, has_calls=bool(fields.get("tool_calls"))),
            **self._details.of_tokens(token_ids),
        }
        return {**choice, "stop_reason": candidate.stop_reason} if candidate.stop_reason is not None else choice

    def opening(self, index: int) -> dict[str, Any] | None:
        """Return a delta with the role, and the echoed message as content."""
        return _chunk_choice(index, {"role": "assistant", "content": self._echoed})

    def empty(self) -> dict[str, Any]:
        """Return a delta with nothing."""
        return _chunk_choice(0, {})

    def delta(self, session: Session, index: int, delta: Delta, state: ChoiceState) -> dict[str, Any] | None:
        """Return a delta with content, tool calls and log-probabilities."""
        parsed = state.parser.feed(delta.text, delta.token_ids, is_last=delta.is_last, is_cut=delta.is_cut)
        fields, token_ids, entries = self._shown(parsed or {}, delta, has_answer=state.has_answer)
        state.has_answer = state.has_answer or is_answer(fields)
        state.has_calls = state.has_calls or bool(fields.get("tool_calls"))
        logprobs = self._logprobs(session, entries)
        ids = self._details.of_tokens(token_ids)
        if not fields and logprobs is None and not delta.is_last and not (ids and token_ids):
            return None
        finish = self._finish(session, delta.finish_reason, has_calls=state.has_calls)
        choice = {**_chunk_choice(index, self._with_calls(fields), finish, logprobs), **ids}
        return {**choice, "stop_reason": delta.stop_reason} if delta.stop_reason is not None else choice

    def progress(self, text: str) -> dict[str, Any] | None:
        """Return the line as `reasoning`, which clients show apart from the answer."""
        return _chunk_choice(0, _with_former_name({"reasoning": text + "\n"})) if self._has_reasoning else None

    def _shown(self, fields: Mapping[str, Any], piece: Candidate | Delta, *, has_answer: bool = False) -> Shown:
        """Return what the caller wants to see."""
        if self._has_reasoning:
            return Shown(fields, piece.token_ids, piece.logprobs)
        return without_reasoning(fields, piece, has_answer=has_answer)

    def _with_calls(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return _with_former_name(with_function_call(fields) if self._has_functions else fields)

    def _finish(self, session: Session, reason: str | None, *, has_calls: bool) -> str | None:
        """Return OpenAI's finish reason: of an answer with a call, that it has one, unless the caller named the tool."""
        if reason == "stop" and has_calls and not _names_tool(session):
            return "function_call" if self._has_functions else "tool_calls"
        return finish_reason(reason)

    def prompt_fields(self, session: Session) -> dict[str, Any]:
        """Return what the caller asked for: a chat has one prompt."""
        return self._details.of_prompt(session, 0)

    def _logprobs(self, session: Session, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        return chat_logprobs(entries, session.request.num_logprobs, as_ids=self._details.tokens_as_ids)


def _with_former_name(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields with the reasoning also as `reasoning_content`: many clients still read only this name."""
    return {**fields, "reasoning_content": fields["reasoning"]} if fields.get("reasoning") else fields


def _chunk_choice(
    index: int, delta: Mapping[str, Any], finish: str | None = None, logprobs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _names_tool(session: Session) -> bool:
    """Return whether the caller named the tool to call. OpenAI then ends the choice with "stop", and not with "tool_calls"."""
    return isinstance(session.request.bodies[0].get("tool_choice"), dict)
