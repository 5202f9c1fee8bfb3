"""The bodies of Anthropic's Messages API. `app.api.fields` says what becomes of every field."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from app.api import fields
from app.api.anthropic.blocks import Block, Message
from app.api.body import INT64, Body, ModelName, RequestBody
from app.api.field_table import Table
from app.api.messages import ToolName
from app.api.output_formats import check_size
from app.api.ponder_options import PonderOptions, ProgressForm
from app.api.sampling import StopString
from app.api.template_variables import TemplateVariables


class Tool(Body):
    """A tool. Only those that the caller runs are served, so only they have a schema."""

    without_effect: ClassVar[frozenset[str]] = frozenset(
        {"allowed_callers", "cache_control", "defer_loading", "eager_input_streaming", "input_examples"}
    )

    type: Annotated[str, Field(max_length=128)] = "custom"
    name: ToolName | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _check_custom(self) -> "Tool":
        if self.is_custom and (self.name is None or self.input_schema is None):
            message = "a tool of the caller needs `name` and `input_schema`"
            raise ValueError(message)
        return self

    @property
    def is_custom(self) -> bool:
        """Whether the caller runs the tool and describes it."""
        return self.type == "custom"

    def ignored_fields(self) -> Iterator[str]:
        """Yield the fields that nobody knows; a tool that is left out has none."""
        return super().ignored_fields() if self.is_custom else iter(())


class ToolChoice(Body):
    """Whether the model may, must or must not call tools."""

    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool = False

    @model_validator(mode="after")
    def _check_name(self) -> "ToolChoice":
        if (self.type == "tool") != (self.name is not None):
            message = "`name` is needed with the type tool, and only then"
            raise ValueError(message)
        return self


class Thinking(Body):
    """Whether the model thinks, how much, and whether the caller sees it."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Field(ge=1, le=INT64)] | None = None
    display: Literal["summarized", "omitted", "updates"] = "summarized"

    @model_validator(mode="after")
    def _check_budget(self) -> "Thinking":
        if (self.type == "enabled") != (self.budget_tokens is not None):
            message = "`budget_tokens` is needed with the type enabled, and only then"
            raise ValueError(message)
        return self


class OutputFormat(Body):
    """The JSON schema that the answer must follow."""

    type: Literal["json_schema"]
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Body):
    """How much effort the answer is worth, and its format."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"task_budget"})

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class CountTokensRequest(RequestBody):
    """`POST /v1/messages/count_tokens`: the part of a request that makes its prompt."""

    table: ClassVar[Table] = fields.MESSAGES
    without_effect: ClassVar[frozenset[str]] = frozenset(fields.MESSAGES)  # fields of `/v1/messages` change no prompt

    model: ModelName
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    system: str | Annotated[list[Block], Field(max_length=1024)] | None = None
    tools: Annotated[list[Tool], Field(max_length=256)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    chat_template_kwargs: TemplateVariables | None = None

    @field_validator("tools", "output_config", mode="before")
    @classmethod
    def _check_size(cls, value: object) -> object:
        return check_size(value)

    @property
    def shows_thinking(self) -> bool:
        """Whether the reply has thinking. A client that did not ask for it may take the first block for the answer."""
        return self.thinking is not None and self.thinking.type != "disabled" and self.thinking.display != "omitted"


class MessagesRequest(CountTokensRequest):
    """`POST /v1/messages`."""

    max_tokens: Annotated[int, Field(ge=1, le=INT64)]
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=INT64)] | None = None
    stop_sequences: Annotated[list[StopString], Field(max_length=16)] | None = None
    stream: bool = False
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    store: bool = True
    ponder: PonderOptions | None = None

    @property
    def progress(self) -> ProgressForm:
        """How the progress of a search is told: as the caller says, else as thinking where the reply has thinking."""
        if self.ponder is not None and "progress" in self.ponder.model_fields_set:
            return self.ponder.progress
        return "reasoning" if self.shows_thinking else "none"
