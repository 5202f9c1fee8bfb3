"""The request bodies. Every accepted field is honoured, every other field is refused by name.

OpenAI's fields and vLLM's sampling extensions go to the engine as they are; the field `ponder` is this server's own. The operator's
limits are checked in `app.serving.planning`. The limits here only keep a single field within reason.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.api.messages import Body, Message, NamedToolChoice, ResponseFormat, Tool
from app.request import Effort
from strategies.core.values import AnswerKind

MAX_SCHEMA_CHARS = 65_536
MAX_JSON_DEPTH = 32
INT64 = 2**63 - 1

TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]


class StreamOptions(Body):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class BudgetBody(Body):
    """The most that this request may spend. `tokens` limits the generated tokens of all candidates together."""

    tokens: Annotated[int, Field(ge=1, le=INT64)] | None = None
    flops: Annotated[int, Field(ge=1, le=INT64)] | None = None
    seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None

    @field_validator("flops", mode="before")
    @classmethod
    def _accept_float(cls, value: object) -> object:
        """Accept a float such as 1e12, the usual way to write FLOPs."""
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= INT64 else value


class PonderOptions(BaseModel):
    """How to answer. Fields other than these are the parameters of the strategy named (docs/use/strategies.md).

    `dry_run` asks for the plan and what it would take, and generates nothing; `show_nodes` lets a stream carry the search tree as it grows.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, frozen=True)

    strategy: Annotated[str, Field(max_length=64)] | None = None  # not an enumeration, since plugins may add strategies
    budget: BudgetBody | None = None
    answer: AnswerKind | None = None
    effort: Effort | None = None
    dry_run: bool = False
    show_nodes: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the strategy, not validated yet."""
        return dict(self.model_extra or {})


class Sampling(Body):
    """The fields that chat and text completions have in common."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=INT64)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=INT64)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=INT64)] | None = None
    n: Annotated[int, Field(ge=1, le=1024)] = 1
    seed: Annotated[int, Field(ge=-INT64 - 1, le=INT64)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=128)] | None = None
    bad_words: Annotated[list[StopString], Field(max_length=128)] | None = None
    allowed_token_ids: Annotated[list[TokenId], Field(min_length=1, max_length=65_536)] | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    response_format: ResponseFormat | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    ponder: PonderOptions | None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> "Sampling":
        if self.stream_options is not None and not self.stream:
            message = "stream_options needs stream to be true"
            raise ValueError(message)
        if self.ponder is not None and self.ponder.show_nodes and not self.stream:
            message = "ponder.show_nodes needs stream to be true"
            raise ValueError(message)
        return self

    @field_validator("response_format", "tools", mode="before", check_fields=False)
    @classmethod
    def _check_size(cls, value: object) -> object:
        """Limit the size and depth of a schema, before a grammar is compiled from it."""
        if value is not None and (len(json.dumps(value)) > MAX_SCHEMA_CHARS or _depth(value) > MAX_JSON_DEPTH):
            message = f"larger than {MAX_SCHEMA_CHARS} characters or deeper than {MAX_JSON_DEPTH} levels"
            raise ValueError(message)
        return value

    @property
    def include_usage(self) -> bool:
        """Whether the stream's last chunk carries `usage`."""
        return self.stream_options is not None and self.stream_options.include_usage

    def for_engine(self) -> dict[str, Any]:
        """Return the fields for the engine, under OpenAI's names; only those that the client sent."""
        ours = {"ponder", "n", "stream", "stream_options", "user", "reasoning_effort", "echo"}
        return self.model_dump(by_alias=True, exclude_none=True, exclude_unset=True, exclude=ours)


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=INT64)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None

    @model_validator(mode="after")
    def _check_consistency(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            message = "top_logprobs needs logprobs to be true"
            raise ValueError(message)
        if self.tool_choice not in (None, "none") and not self.tools:
            message = "tool_choice needs tools"
            raise ValueError(message)
        if isinstance(self.tool_choice, NamedToolChoice) and self.tool_choice.function.name not in {
            tool.function.name for tool in self.tools or []
        }:
            message = "tool_choice names a function that is not among tools"
            raise ValueError(message)
        return self

    @property
    def num_logprobs(self) -> int | None:
        """The number of alternatives for each token in the reply; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def question(self) -> str:
        """The text of the last user message, empty without one."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    @property
    def num_chars(self) -> int:
        """The number of characters of all messages."""
        return sum(len(message.text) for message in self.messages)


class CompletionRequest(Sampling):
    """`POST /v1/completions`."""

    prompt: (
        str
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=256)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=256)]
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool = False

    @property
    def num_logprobs(self) -> int | None:
        """The number of alternatives for each token in the reply; None for no log-probabilities."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each as a text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]  # a list of token ids is one prompt
        return list(self.prompt)


def _depth(value: object, level: int = 1) -> int:
    if level > MAX_JSON_DEPTH or not isinstance(value, dict | list):
        return level
    children = value.values() if isinstance(value, dict) else value
    return max((_depth(child, level + 1) for child in children), default=level)
