"""The fields that the bodies of chat and text completions have in common.

OpenAI's fields and vLLM's extensions go to the engine as they are. The operator's limits are checked in `app.serving.planning`. The
limits here only keep a single field within reason.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from app.api.body import INT64, Body, ModelName, RequestBody
from app.api.output_formats import ResponseFormat, StructuredOutputs, check_size, from_guided
from app.api.ponder_options import PonderOptions, ProgressForm
from app.errors import InvalidRequest
from app.metering.budget import Budget

TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
StopString = Annotated[str, Field(min_length=1, max_length=256)]


class StreamOptions(Body):
    """OpenAI's `stream_options`, and vLLM's."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"include_obfuscation"})

    include_usage: bool = False
    continuous_usage_stats: bool = False


class RepetitionDetection(Body):
    """vLLM's `repetition_detection`: a pattern of tokens that repeats so often ends the answer."""

    max_pattern_size: Annotated[int, Field(ge=0, le=1024)] = 0
    min_pattern_size: Annotated[int, Field(ge=0, le=1024)] = 0
    min_count: Annotated[int, Field(ge=0, le=1024)] = 0


class Sampling(RequestBody):
    """The fields that chat and text completions have in common."""

    model: ModelName
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
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
    spaces_between_special_tokens: bool | None = None
    repetition_detection: RepetitionDetection | None = None
    thinking_token_budget: Annotated[int, Field(ge=-1, le=INT64)] | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=INT64)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    add_special_tokens: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    ponder: PonderOptions | None = None

    not_for_engine: ClassVar[frozenset[str]] = frozenset(
        {"ponder", "n", "stream", "stream_options", "echo", "request_id", "cache_salt", "thinking_token_budget",
         "prompt_logprobs", "return_token_ids", "return_tokens_as_token_ids"}
    )  # fmt: skip

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Rewrite the former forms, and refuse what the table refuses."""
        return from_guided(super().prepared(data))

    @model_validator(mode="after")
    def _nodes_need_a_stream(self) -> Self:
        if self.ponder is not None and self.ponder.show_nodes and not self.stream:
            message = "ponder.show_nodes needs stream to be true"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _prompt_logprobs_are_not_streamed(self) -> Self:
        if self.stream and self.prompt_logprobs:
            raise InvalidRequest("prompt_logprobs: they are not in a stream; set stream to false.", parameter="prompt_logprobs")
        return self

    @field_validator(
        "response_format", "structured_outputs", "tools", "functions", "documents",
        mode="before", check_fields=False,
    )  # fmt: skip
    @classmethod
    def _check_size(cls, value: object) -> object:
        return check_size(value)

    @property
    def progress(self) -> ProgressForm:
        """How a stream tells the progress of a search."""
        return (self.ponder or PonderOptions()).progress

    @property
    def budget(self) -> Budget:
        """What the request may spend. Of two budgets for thinking the smaller one holds; -1 is vLLM's for none."""
        thinking = None if self.thinking_token_budget == -1 else self.thinking_token_budget
        own = self.ponder and self.ponder.budget
        spent = Budget(**own.model_dump()) if own else Budget()
        return spent.capped(Budget(thinking_tokens=thinking))

    def for_engine(self) -> dict[str, Any]:
        """Return the fields for the engine, under OpenAI's names; only those that the client sent."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude_unset=True, exclude=set(self.not_for_engine))
