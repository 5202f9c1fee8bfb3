"""The shape of a choice of `text_completion`, whole and as chunks of a stream."""

from collections.abc import Sequence
from typing import Any

from app.api.logprobs import CompletionToken, completion_logprobs, generated_tokens, prompt_tokens
from app.api.shapes import NO_DETAILS, ChoiceState, Details, finish_reason
from app.serving.session import Session
from strategies.core.values import Candidate, Delta, TokenLogprob


class CompletionShape:
    """`text_completion`."""

    id_prefix = "cmpl-"
    object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, details: Details = NO_DETAILS, *, echo: bool = False) -> None:
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
            "finish_reason": finish_reason(candidate.finish_reason),
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
        finish = finish_reason(delta.finish_reason)
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
        ids = session.rendered.prompts[number].token_ids
        if not self._echo or num is None or logprobs is None or not ids:
            return []
        first = ids[0]
        return prompt_tokens((session.engine.decode([first]), first), logprobs, num, as_ids=self._details.tokens_as_ids)
