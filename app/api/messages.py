"""The conversation, the tools and the form of the answer, as clients send them: OpenAI's shapes, text only."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1, max_length=256)]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Body(BaseModel):
    """Base of all request bodies: unknown fields and non-finite numbers are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, strict=True)


class TextPart(Body):
    """One part of a message; only text is served."""

    type: Literal["text"]
    text: str


class FunctionCall(Body):
    """A call that an earlier assistant message made."""

    name: ToolName
    arguments: str


class ToolCall(Body):
    """A tool call in the conversation so far."""

    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Body):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(max_length=1024)] | None = None
    name: Name | None = None
    reasoning: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None
    refusal: None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if self.content is None and not self.tool_calls:
            message = "a message needs content (or tool_calls, from an assistant)"
            raise ValueError(message)
        if self.tool_calls and self.role != "assistant":
            message = "only an assistant makes tool calls"
            raise ValueError(message)
        return self

    @property
    def text(self) -> str:
        """The text of all parts."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class Function(Body):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool; only functions exist."""

    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    """The function that must be called."""

    name: ToolName


class NamedToolChoice(Body):
    """Exactly this tool."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Body):
    """The schema that an answer must follow."""

    name: Name
    description: str | None = None
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    """Free text, any JSON object, or JSON after a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            message = "json_schema is needed with type json_schema, and only then"
            raise ValueError(message)
        return self
