"""The two shapes of a choice: OpenAI's `chat.completion` and `text_completion`, whole and as chunks of a stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.api.logprobs import (
    CompletionToken,
    chat_logprobs,
    completion_logprobs,
    generated_tokens,
    prompt_logprobs,
    prompt_tokens,
)
from app.api.tools import with_function_call
from app.engine.base import Prompt, ReplyParser
from app.serving.session import Session
from strategies.core.values import Candidate, Delta, TokenLogprob


@dataclass(slots=True)
class ChoiceState:
    """What a stream keeps of one choice between its deltas.

    Attributes:
        parser: splits the text into content, reasoning and tool calls.
        prompt: that the choice answers, and `number` its position in the request.
        has_calls: whether a tool call was sent.
        has_begun: whether any chunk was sent.
        offset: where the next token begins, in characters, an echoed prompt included.

    """

    parser: ReplyParser
    prompt: Prompt
    number: int = 0
    has_calls: bool = False
    has_begun: bool = False
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a reply shows besides the generated text.

    Attributes:
        has_token_ids: the ids of the tokens of the prompt and the answer.
        has_prompt_text: the rendered prompt as text.
        tokens_as_ids: tokens of log-probabilities are told as `token_id:…`.
        num_prompt_logprobs: alternatives for each token of the prompt; None for no log-probabilities of it.

    """

    has_token_ids: bool = False
    has_prompt_text: bool = False
    tokens_as_ids: bool = False
    num_prompt_logprobs: int | None = None

    def of_prompt(self, session: Session, number: int) -> dict[str, Any]:
        """Return the fields of the prompt with this number that the caller asked for."""
        prompt = session.rendered.prompts[number]
        fields: dict[str, Any] = {}
        if self.num_prompt_logprobs is not None:
            fields["prompt_logprobs"] = prompt_logprobs(session.prompt_logprobs.get(number), self.num_prompt_logprobs)
        if self.has_token_ids:
            fields["prompt_token_ids"] = prompt.token_ids
        if self.has_prompt_text:
            fields["prompt_text"] = prompt.text
        return fields

    def of_tokens(self, token_ids: tuple[int, ...]) -> dict[str, Any]:
        """Return the ids of generated tokens if the caller asked for them."""
        return {"token_ids": token_ids} if self.has_token_ids else {}


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

    def prompt_fields(self, session: Session) -> dict[str, Any]:
        """Return the fields about the prompt that stand beside the choices, of a whole reply and of the first chunk of a choice."""
        ...


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
        self, details: Details = Details(), echoed: str = "", *, has_functions: bool = False, has_reasoning: bool = True
    ) -> None:
        self._details = details
        self._echoed = echoed
        self._has_functions = has_functions
        self._has_reasoning = has_reasoning

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """Return a choice with a whole message, its tool calls parsed."""
        prompt = session.rendered.prompts[number]
        parser = session.engine.parser(prompt)
        fields = self._visible(parser.parse(candidate.text, candidate.token_ids, is_cut=not candidate.is_complete))
        if self._echoed:
            fields = {**fields, "content": self._echoed + (fields.get("content") or "")}
        choice: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "content": None, "refusal": None, **self._with_calls(fields)},
            "logprobs": self._logprobs(session, candidate.logprobs),
            "finish_reason": self._finish(session, candidate.finish_reason, has_calls=bool(fields.get("tool_calls"))),
            **self._details.of_tokens(candidate.token_ids),
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
        is_last = delta.finish_reason is not None
        fields = state.parser.feed(
            delta.text, delta.token_ids, is_last=is_last, is_cut=delta.finish_reason not in (None, "stop")
        )
        fields = fields and self._visible(fields)
        state.has_calls = state.has_calls or bool(fields and fields.get("tool_calls"))
        logprobs = self._logprobs(session, delta.logprobs)
        ids = self._details.of_tokens(delta.token_ids)
        if not fields and logprobs is None and delta.finish_reason is None and not ids:
            return None
        finish = self._finish(session, delta.finish_reason, has_calls=state.has_calls)
        choice = {**_chunk_choice(index, self._with_calls(fields or {}), finish, logprobs), **ids}
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

    def prompt_fields(self, session: Session) -> dict[str, Any]:
        """Return what the caller asked for: a chat has one prompt."""
        return self._details.of_prompt(session, 0)

    def _logprobs(self, session: Session, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        return chat_logprobs(entries, session.request.num_logprobs, as_ids=self._details.tokens_as_ids)


class CompletionShape:
    """`text_completion`."""

    id_prefix = "cmpl-"
    object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, details: Details = Details(), *, echo: bool = False) -> None:
        self._details = details
        self._echo = echo

    def choice(self, session: Session, number: int, index: int, candidate: Candidate) -> dict[str, Any]:
        """Return a choice with the text, behind the prompt's if the caller wants it echoed."""
        text = session.rendered.prompts[number].text if self._echo else ""
        prompt = self._prompt_tokens(session, number)
        return {
            "index": index,
            "text": text + candidate.text,
            "logprobs": completion_logprobs([*prompt, *self._tokens(session, candidate.logprobs)], 0 if prompt else len(text)),
            "finish_reason": _finish(candidate.finish_reason),
            "stop_reason": candidate.stop_reason,
            **self._details.of_prompt(session, number),
            **self._details.of_tokens(candidate.token_ids),
        }

    def opening(self, index: int) -> dict[str, Any] | None:  # noqa: ARG002 - the protocol's signature
        """Return None: a text completion has no role."""
        return None

    def empty(self) -> dict[str, Any]:
        """Return no text."""
        return {"index": 0, "text": "", "logprobs": None, "finish_reason": None}

    def delta(self, session: Session, index: int, delta: Delta, state: ChoiceState) -> dict[str, Any] | None:
        """Return the new text, the first time behind an echoed prompt."""
        text, tokens, fields = delta.text, self._tokens(session, delta.logprobs), self._details.of_tokens(delta.token_ids)
        if not state.has_begun:
            state.has_begun = True
            fields |= self._details.of_prompt(session, state.number)
            if self._echo:
                text = state.prompt.text + text
                prompt = self._prompt_tokens(session, state.number)
                tokens = [*prompt, *tokens]
                state.offset = 0 if prompt else len(state.prompt.text)
        logprobs = completion_logprobs(tokens, state.offset)
        state.offset += sum(len(one.token) for one in tokens)
        finish = _finish(delta.finish_reason)
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish, **fields}
        return {**choice, "stop_reason": delta.stop_reason} if finish is not None else choice

    def progress(self, text: str) -> dict[str, Any] | None:  # noqa: ARG002 - the protocol's signature
        """Return None: a text completion has no field for it."""
        return None

    def prompt_fields(self, session: Session) -> dict[str, Any]:  # noqa: ARG002 - the protocol's signature
        """Return none: each choice has those of its own prompt."""
        return {}

    def _tokens(self, session: Session, entries: Sequence[TokenLogprob]) -> list[CompletionToken]:
        num = session.request.num_logprobs
        return [] if num is None else generated_tokens(entries, num, as_ids=self._details.tokens_as_ids)

    def _prompt_tokens(self, session: Session, number: int) -> list[CompletionToken]:
        """Return the tokens of an echoed prompt, where the caller wants log-probabilities."""
        num, logprobs = session.request.num_logprobs, session.prompt_logprobs.get(number)
        if not self._echo or num is None or logprobs is None:
            return []
        first = session.rendered.prompts[number].token_ids[0]
        return prompt_tokens((session.engine.decode([first]), first), logprobs, num, as_ids=self._details.tokens_as_ids)


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
