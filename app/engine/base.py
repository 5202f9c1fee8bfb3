"""The port behind which an engine stands, and the values that cross it. Imports no engine."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from adapters.ports import AdapterHost, EngineAdapter
from adapters.version import AdapterVersion
from app.engine.architecture import Architecture
from app.engine.flops.vision import ImageTokens
from app.engine.replica import ReplicaStatus
from app.engine.speculation import NO_DRAFTS, Drafts, Speculation
from strategies.core.thinking import Thinking
from strategies.core.values import TokenLogprob


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the service knows of the served model.

    Attributes:
        name: what clients call the model.
        max_model_len: the most tokens of a prompt and its answer together.
        max_branches: sequences that the engine runs at the same time.
        architecture: of the model, without an adapter.
        description: of the engine, in a few words.
        adapter_slots: LoRA adapters that the engine holds at the same time; 0 for none.
        max_adapter_rank: the highest rank that an adapter may have.
        end_tokens: ids of the tokens that end an answer.
        special_tokens: ids of the special tokens, such as those between the turns of a conversation.
        modalities: what the model reads besides text; of `image`, `audio` and `video`, only images are served.
        max_images: the most images of one prompt.
        peak_flops: FLOPs a second of a large matrix product in the model's number format, measured when the engine started; None
            where that was not possible.
        speculation: how tokens are drafted; None without speculative decoding.
        losses: what this engine cannot do or tell that others can, each in a few words for callers.

    """

    name: str
    max_model_len: int
    max_branches: int
    architecture: Architecture
    description: str = ""
    adapter_slots: int = 0
    max_adapter_rank: int = 0
    end_tokens: frozenset[int] = frozenset()
    special_tokens: frozenset[int] = frozenset()
    modalities: frozenset[str] = frozenset()
    max_images: int = 0
    peak_flops: float | None = None
    speculation: Speculation | None = None
    losses: tuple[str, ...] = ()

    @property
    def has_estimated_flops(self) -> bool:
        """Whether the FLOPs of the model, or of what drafts for it, are estimated."""
        draft = self.speculation.draft if self.speculation else None
        return self.architecture.is_estimate or (draft is not None and draft.is_estimate)

    def architecture_with(self, version: AdapterVersion | None) -> Architecture:
        """Return the architecture of the model with this adapter version, or alone where it is None."""
        return self.architecture if version is None else self.architecture.with_lora(version.parameters)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt.

    Attributes:
        token_ids: of the whole prompt.
        max_tokens: the most tokens that one answer may have: the smallest of the caller's limit, the server's, and what the prompt
            leaves of the context.
        sampling: the engine's own sampling parameters. Other code must not read them.
        request: the engine's own form of the request, for its reply parser. Other code must not read it.
        dialect: the engine's own: the chat template and the parsers that hold for it. Other code must not read it.
        text: the prompt as text, where the engine has it.
        stop: the caller's stop strings.
        min_tokens: the least tokens of an answer. The engine looks for stop strings only behind them.
        is_constrained: whether a grammar (a JSON schema, for example) holds: from the first generated token on, or from behind the
            thinking.
        thinking: how the model marks its thinking in replies; None where it does not think.
        images: the images in it, from the first to the last.
        media: the engine's own form of the images. Other code must not read it.

    """

    token_ids: tuple[int, ...]
    max_tokens: int
    sampling: Any = None
    request: Any = None
    text: str = ""
    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    is_constrained: bool = False
    thinking: Thinking | None = None
    dialect: Any = None
    images: tuple[ImageTokens, ...] = ()
    media: Any = None

    def images_in(self, prefix: Sequence[int]) -> tuple[ImageTokens, ...]:
        """Return the images in a prefix: those of the prompt where the prefix continues it, else none."""
        if not self.images:
            return ()
        end = self.images[-1].end
        return self.images if tuple(prefix[:end]) == self.token_ids[:end] else ()


@dataclass(frozen=True, slots=True)
class RankedToken:
    """A token at one position of a prompt. `rank` is its place among all tokens there by probability, from 1."""

    token_id: int
    token: str
    logprob: float
    rank: int


PromptLogprobs = tuple[tuple[RankedToken, ...], ...]
"""For each token of a prompt: the token itself, then the most probable ones in its place; empty for the first token."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """What counts as a loop: the last tokens are the same pattern, so often in a row. The branch ends there.

    By default a loop has at least 64 tokens, and up to 32 in each round. A shorter round is found as well, since several of them are
    one pattern. A loop of 64 tokens is no list or table that an answer needs, and the engine looks for few lengths at each token.

    Attributes:
        max_pattern_size: the most tokens of the pattern; 0 looks for none.
        min_pattern_size: the fewest.
        min_count: how often it must stand there.

    """

    max_pattern_size: int = 32
    min_pattern_size: int = 16
    min_count: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One generation. `n` samples are `n` branches, so that each can be counted and ended by itself.

    Attributes:
        id: of this branch, never used again.
        prompt: whose sampling parameters and stop strings hold.
        prefix: ids of the tokens to continue: those of the prompt, or more.
        max_tokens: the most tokens to generate.
        priority: branches with a lower number are served first.
        seed: for sampling, instead of the prompt's own; None keeps that.
        num_logprobs: alternatives for each token whose log-probabilities are returned; 0 for the sampled token's alone, None for no
            log-probabilities.
        cache_salt: branches share cached prefixes only with branches of the same salt.
        image_salt: the same for what the vision tower has read, which is the same with every adapter.
        is_streamed: whether outputs come as tokens are generated, instead of one output at the end.
        adapter: the LoRA adapter to generate with, None for the base model. It is loaded, and leased until the branch has ended.
        separators: further stop strings, which stay in the text; those of the prompt do not.
        temperature: for sampling, instead of the prompt's own; None keeps that.
        options: token ids. When there are any, one token is generated and the log-probability of each option is returned.
        num_prompt_logprobs: alternatives for each token of the prefix whose log-probabilities are returned with the last output; None for
            no log-probabilities of the prefix. The engine computes the whole prefix for them, whatever is cached.
        repetition: a loop that ends the branch, unless the request says itself what a loop is; None for the request's own alone.

    """

    id: str
    prompt: Prompt
    prefix: tuple[int, ...]
    max_tokens: int
    priority: int = 0
    seed: int | None = None
    num_logprobs: int | None = None
    cache_salt: str | None = None
    image_salt: str | None = None
    is_streamed: bool = False
    adapter: EngineAdapter | None = None
    separators: tuple[str, ...] = ()
    temperature: float | None = None
    options: tuple[int, ...] = ()
    num_prompt_logprobs: int | None = None
    repetition: Repetition | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What a branch generated since its last output.

    Attributes:
        text: of the new tokens.
        token_ids: of the new tokens.
        prompt_tokens: length of the branch's prefix.
        cached_tokens: how many tokens of the prefix were found in the prefix cache.
        finish_reason: `stop`, `length`, `abort` or `repetition` (the branch has begun to loop) on the last output, None before it.
        stop_reason: the stop string or the id of the token that ended the branch, where there is one.
        logprobs: of the new tokens, where the branch asks for them.
        option_logprobs: log-probabilities of the branch's `options`, by token id.
        prompt_logprobs: of the branch's prefix, where the branch asks for them.
        drafts: for the whole branch, on its last output. The engine tells none for a branch that was ended early.
        recomputed_tokens: tokens that had to be computed again, since a part of the engine failed, on the last output.

    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    cached_tokens: int
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    option_logprobs: Mapping[int, float] = field(default_factory=dict)
    prompt_logprobs: PromptLogprobs = ()
    drafts: Drafts = NO_DRAFTS
    recomputed_tokens: int = 0


class ReplyParser(Protocol):
    """Turns generated text into the fields of an assistant message: `content`, `reasoning`, `tool_calls`.

    A parser reads one reply, with one of the two methods. `is_cut` says that the reply ended before the model ended it. The markup of
    a tool call that was cut is not content: the call has the arguments that there are, or is left out where its name was cut too.
    """

    def parse(self, text: str, token_ids: tuple[int, ...], *, is_cut: bool = False) -> dict[str, Any]:
        """Return the fields of a whole message."""
        ...

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool, is_cut: bool = False) -> dict[str, Any] | None:
        """Return the fields of the next delta for newly generated text, None when there is nothing to show yet.

        The first delta of a tool call has its id, type, name and the beginning of its arguments, each later one more of the arguments.
        """
        ...


class Engine(AdapterHost, Protocol):
    """Generates tokens, and holds adapters (`AdapterHost`).

    Its methods raise the errors of `app.errors`: `InvalidRequest` for what a client did wrong, `EngineDead` when the engine died.
    Everything else that they raise is a defect of the engine.

    Attributes:
        card: describes the model; set by `start`.

    """

    card: ModelCard

    async def start(self) -> None:
        """Load the model. Returns when the engine can generate."""
        ...

    async def close(self) -> None:
        """End every branch and free all memory. Calling it again does nothing."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the engine is dead, None while it lives. Reading it is cheap and does not wait for the engine."""
        ...

    @property
    def outage(self) -> str | None:
        """Why a living engine can generate nothing for the moment, None while it can."""
        ...

    @property
    def replicas(self) -> tuple[ReplicaStatus, ...]:
        """The servers that generate for this engine; none for an engine in this process."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text that continues a prompt, without special tokens before or after it."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of these tokens, special tokens included. Raises `InvalidRequest` for an id that no token has."""
        ...

    def follow_up(self, prompt: Prompt, text: str, *, thinks: bool = False) -> tuple[int, ...]:
        """Return the token ids that end the assistant's turn, say `text` as the user, and open the assistant's next turn.

        Args:
            prompt: that the conversation began with.
            text: of the user.
            thinks: whether the model is to think in its next turn as it does behind the prompt, or to answer at once.

        """
        ...

    async def render_chat(self, body: Mapping[str, Any], *, template: str | None = None) -> Prompt:
        """Apply the chat template and tokenise.

        Args:
            body: the fields of OpenAI's chat completions, which the API has validated. Its images are decoded:
                parts of the form `{"type": "image", "image": PIL.Image}`.
            template: of an adapter that has a chat template of its own; None for the model's.

        Raises:
            InvalidRequest: for example for a prompt that leaves no room for an answer.

        """
        ...

    async def render_completion(self, body: Mapping[str, Any]) -> Prompt:
        """Tokenise the one `prompt` of a completion request, text or token ids. Raises `InvalidRequest`."""
        ...

    async def tokenize(self, body: Mapping[str, Any], *, template: str | None = None) -> tuple[int, ...]:
        """Return the token ids of a text (`prompt`) or of a conversation (`messages`), however long. Raises `InvalidRequest`.

        `body` holds the fields of vLLM's `/tokenize`, which the API has validated. `template` is that of `render_chat`.
        """
        ...

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Return the text of these tokens. Raises `InvalidRequest` for an id that no token has."""
        ...

    async def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Return each token as its tokenizer writes it."""
        ...

    def parser(self, prompt: Prompt) -> ReplyParser:
        """Return a new parser for one answer to `prompt`."""
        ...

    def generate(self, branch: Branch) -> AsyncIterator[Output]:
        """Run one branch and yield its outputs. Closing the iterator aborts the branch in the engine."""
        ...

    async def halt(self, ids: list[str]) -> None:
        """End these branches now. Each still yields a last output, with finish reason `abort` and the tokens that it had."""
        ...

    async def metrics(self, *, is_openmetrics: bool) -> bytes:
        """Return the engine's own metrics, in Prometheus' text format or in OpenMetrics without its last line. May be empty."""
        ...

    async def num_running(self) -> int:
        """Return the number of branches that the engine runs or queues now, by its own count."""
        ...


class InProcess:
    """What every engine says of itself that generates in the server's own process."""

    @property
    def outage(self) -> str | None:
        """Nothing: while it lives, it generates."""
        return None

    @property
    def replicas(self) -> tuple[ReplicaStatus, ...]:
        """None: it generates in this process."""
        return ()
