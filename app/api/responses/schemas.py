"""The request body of `/v1/responses`. `app.api.fields` says what becomes of every field."""

from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field, field_validator

from app.api import fields
from app.api.body import INT64, Body, ModelName, RequestBody
from app.api.field_table import Table
from app.api.output_formats import check_size
from app.api.ponder_options import PonderOptions
from app.api.sampling import ReasoningEffort
from app.api.template_variables import TemplateVariables

ResponseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
Item = dict[str, Any]


class Reasoning(Body):
    """How much to think. A summary is told of every search, whatever `summary` says."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"context", "mode"})

    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class TextOptions(Body):
    """The format of the answer. `verbosity` has no effect."""

    format: dict[str, Any] = Field(default_factory=lambda: {"type": "text"})
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesRequest(RequestBody):
    """`POST /v1/responses`. What `app.api.schemas.ChatRequest` has too is validated there, after `conversion` has rewritten it."""

    table: ClassVar[Table] = fields.RESPONSES

    model: ModelName
    input: str | Annotated[list[Item], Field(max_length=4096)] = Field(default_factory=list)
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    background: bool = False
    store: bool = True
    stream: bool = False
    truncation: Literal["auto", "disabled"] = "disabled"
    include: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(default_factory=list)
    max_output_tokens: Annotated[int, Field(ge=1, le=INT64)] | None = None
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] = Field(default_factory=dict)
    parallel_tool_calls: bool = True
    reasoning: Reasoning | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    text: TextOptions = Field(default_factory=TextOptions)
    tools: Annotated[list[Item], Field(max_length=1024)] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] = "auto"
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    include_reasoning: bool | None = None
    structured_outputs: dict[str, Any] | None = None
    chat_template_kwargs: TemplateVariables | None = None
    cache_salt: str | None = None
    request_id: str | None = None
    ponder: PonderOptions | None = None

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Refuse what the table refuses, and what could not be returned."""
        data = super().prepared(data)
        try:
            orjson.dumps({name: value for name, value in data.items() if name != "ponder"})
        except TypeError as error:  # parts of the body are kept and returned as they came
            message = f"it cannot be written as JSON: {error}"
            raise ValueError(message) from None
        return data

    @field_validator("tools", "tool_choice", "text", "structured_outputs", mode="before")
    @classmethod
    def _check_size(cls, value: object) -> object:
        return check_size(value)

    @property
    def has_logprobs(self) -> bool:
        """Whether the reply has the log-probabilities of the answer's tokens."""
        return self.top_logprobs > 0 or "message.output_text.logprobs" in self.include
