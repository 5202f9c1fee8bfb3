"""Messages, tools and response formats as clients send them: OpenAI's shapes, with text only."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1, max_length=256)]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Body(BaseModel):
    """Base of all request bodies: unknown fields and non-finite numbers are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, strict=True)


class TextPart(Body):
    """A part of a message. Only texts are served."""

    type: Literal["text"]
    text: str


class FunctionCall(Body):
    """The function and the arguments of a tool call."""

    name: ToolName
    arguments: str


class ToolCall(Body):
    """A tool call of an earlier assistant message."""

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
    def _check_content(self) -> "Message":
        if self.content is None and not self.tool_calls:
            message = "a message needs content (or tool_calls, from an assistant)"
            raise ValueError(message)
        if self.tool_calls and self.role != "assistant":
            message = "only an assistant makes tool calls"
            raise ValueError(message)
        return self

    @property
    def text(self) -> str:
        """The text of the message, its parts joined."""
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
    """A tool that the model may use. Only functions are served."""

    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    """The name of the function that the model must call."""

    name: ToolName


class NamedToolChoice(Body):
    """A `tool_choice` that names one tool."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Body):
    """The JSON schema that an answer must follow."""

    name: Name
    description: str | None = None
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    """OpenAI's `response_format`: free text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            message = "json_schema is needed with type json_schema, and only then"
            raise ValueError(message)
        return self
