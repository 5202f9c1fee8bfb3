"""The port behind which an engine stands, and the values that cross it. No engine is imported here."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from adapters.ports import AdapterHost, EngineAdapter
from adapters.version import AdapterVersion
from app.engine.architecture import Architecture
from strategies.core.values import TokenLogprob


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the service must know of the served model.

    Attributes:
        max_branches: sequences the engine runs at the same time.
        end_tokens: ids that end an answer.
        peak_flops: a second, of a large matrix product in the model's number format, measured when the engine started; None where
            that was not possible.
        adapter_slots: LoRA adapters it holds at the same time, 0 for none; each of a rank up to `max_adapter_rank`.

    """

    name: str
    max_model_len: int
    max_branches: int
    architecture: Architecture
    description: str = ""
    adapter_slots: int = 0
    max_adapter_rank: int = 0
    end_tokens: frozenset[int] = frozenset()
    peak_flops: float | None = None

    def architecture_with(self, version: AdapterVersion | None) -> Architecture:
        """What computes an answer: the model with that version of an adapter, or alone."""
        return self.architecture if version is None else self.architecture.with_lora(version.parameters)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: token ids, what is left of the context, and what the engine keeps for its own use.

    Attributes:
        max_tokens: the most that one answer may generate (the caller's limit, the context, the server's cap).
        sampling: the engine's own sampling parameters; opaque to everyone else.
        request: the engine's own form of the request, for its reply parser; opaque to everyone else.
        stop: the caller's stop strings.
        is_constrained: a grammar holds from the first generated token on.

    """

    token_ids: tuple[int, ...]
    max_tokens: int
    sampling: Any = None
    request: Any = None
    text: str = ""
    stop: tuple[str, ...] = ()
    is_constrained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One generation: `n` of them are `n` branches, so that each can be counted and ended by itself.

    Attributes:
        id: never reused.
        prefix: token ids to continue, the prompt's or longer.
        priority: lower is served first.
        seed: overrides the prompt's own when not None.
        num_logprobs: alternatives per token; None for no log-probabilities at all, 0 for the sampled token's only.
        cache_salt: branches share cached prefixes only with branches of the same salt.
        is_streamed: deltas as they come, instead of one output at the end.
        adapter: the LoRA adapter to generate with; loaded, and leased for as long as the branch runs.
        separators: end the branch as the prompt's own stop strings do, but stay in the text.
        temperature: overrides the prompt's own when not None.
        options: when given, generate one token and return the log-probabilities of these token ids.

    """

    id: str
    prompt: Prompt
    prefix: tuple[int, ...]
    max_tokens: int
    priority: int = 0
    seed: int | None = None
    num_logprobs: int | None = None
    cache_salt: str | None = None
    is_streamed: bool = False
    adapter: EngineAdapter | None = None
    separators: tuple[str, ...] = ()
    temperature: float | None = None
    options: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What a branch produced since its last output. `finish_reason` is set on the last: stop, length or abort."""

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    cached_tokens: int
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    option_logprobs: Mapping[int, float] = field(default_factory=dict)


class ReplyParser(Protocol):
    """Turns generated text into the fields of an assistant message: `content`, `reasoning`, `tool_calls`."""

    def parse(self, text: str, token_ids: tuple[int, ...]) -> dict[str, Any]:
        """The fields of a whole message."""
        ...

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool) -> dict[str, Any] | None:
        """The fields of the next delta, None when there is nothing to show yet."""
        ...


class Engine(AdapterHost, Protocol):
    """Generates. Errors are those of `app.errors`; anything else that comes out is a defect."""

    card: ModelCard

    async def start(self) -> None:
        """Load the model; returns when it can generate."""
        ...

    async def close(self) -> None:
        """End every branch and free everything; safe to call twice."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the engine is dead, None while it lives. Cheap; does not ask the engine."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a piece of text that continues a prompt: nothing is put before or after it."""
        ...

    def follow_up(self, text: str) -> tuple[int, ...]:
        """Token ids that end the assistant's turn, ask `text` as the user, and open the assistant's next turn."""
        ...

    async def render_chat(self, body: Mapping[str, Any]) -> Prompt:
        """Apply the chat template and tokenise. `body` holds OpenAI fields that the API has validated."""
        ...

    async def render_completion(self, body: Mapping[str, Any]) -> Prompt:
        """Tokenise one `prompt` (text or token ids)."""
        ...

    def parser(self, prompt: Prompt) -> ReplyParser:
        """A fresh parser for one answer to `prompt`."""
        ...

    def generate(self, branch: Branch) -> AsyncIterator[Output]:
        """Run one branch. Cancelling the iteration aborts it in the engine."""
        ...

    async def halt(self, ids: list[str]) -> None:
        """End these branches now; each still yields a last output (finish reason "abort") with what it had."""
        ...

    def metrics(self, *, is_openmetrics: bool) -> bytes:
        """The engine's own metrics in Prometheus' text format, or in OpenMetrics without the mark of its end; may be empty."""
        ...

    async def num_running(self) -> int:
        """Branches that the engine runs or queues at this moment, by its own count."""
        ...
