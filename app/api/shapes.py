"""What the two shapes of a choice have in common: `app.api.chat_shape` and `app.api.completion_shape`."""

from dataclasses import dataclass
from typing import Any, Protocol

from app.api.logprobs import prompt_logprobs
from app.engine.base import Prompt, ReplyParser
from app.serving.session import Session
from strategies.core.values import Candidate, Delta


@dataclass(slots=True)
class ChoiceState:
    """What a stream keeps of one choice between its deltas.

    Attributes:
        parser: splits the text into content, reasoning and tool calls.
        prompt: that the choice answers.
        number: the position of this prompt in the request, from 0.
        has_calls: whether a tool call was sent.
        has_answer: whether content or a tool call was sent.
        has_begun: whether any chunk was sent.
        offset: where the next token begins, in characters, an echoed prompt included.

    """

    parser: ReplyParser
    prompt: Prompt
    number: int = 0
    has_calls: bool = False
    has_answer: bool = False
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


NO_DETAILS = Details()


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


def finish_reason(reason: str | None) -> str | None:
    """Return OpenAI's finish reason. It has none for an answer that a budget, a deadline or a search ended, or that loops: "length"."""
    return "length" if reason in ("abort", "cut", "step", "repetition") else reason
