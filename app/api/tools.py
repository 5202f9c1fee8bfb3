"""The tools that a model may call, the choice among them, and calls in OpenAI's former form."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Tag, field_validator

from app.api.body import Body
from app.api.json_schemas import STANDALONE, Totals, check_schema
from app.api.messages import ToolName
from app.errors import InvalidRequest


def _no_parameters() -> dict[str, Any]:
    return {"type": "object", "properties": {}}


class Function(Body):
    """A function that the model may call. Without parameters, its arguments are an empty object."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] = Field(default_factory=_no_parameters)
    strict: bool | None = None

    @field_validator("parameters")
    @classmethod
    def _describe_an_object(cls, schema: dict[str, Any]) -> dict[str, Any]:
        if not schema:
            return _no_parameters()
        kind = schema.get("type")
        if kind is None:
            return schema if schema.keys() & set(STANDALONE) else {"type": "object", **schema}
        if kind != "object" and not (isinstance(kind, list) and "object" in kind):
            message = "must be a JSON schema of the type object"
            raise ValueError(message)
        return {**schema, "type": "object"}


class Tool(Body):
    """A tool that the model may use. Only functions are served."""

    type: Literal["function"] = "function"
    function: Function


class NamedFunction(Body):
    """The name of the function that the model must call."""

    name: ToolName


class NamedToolChoice(Body):
    """A `tool_choice` that names one tool."""

    type: Literal["function"] = "function"
    function: NamedFunction


class AllowedTool(Body):
    """One of the tools that are allowed."""

    type: Literal["function"] = "function"
    function: NamedFunction


class AllowedTools(Body):
    """The tools among which the model may, or must, choose."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Field(min_length=1, max_length=128)]


class AllowedToolChoice(Body):
    """A `tool_choice` that leaves only some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = (
    Literal["none", "auto", "required"]
    | Annotated[NamedToolChoice, Tag("type=function")]
    | Annotated[AllowedToolChoice, Tag("type=allowed_tools")]
)
"""The tags stand in the locations of pydantic's errors, for `app.faults`."""


FunctionChoice = Literal["none", "auto"] | NamedFunction
"""OpenAI's former field `function_call`."""


def from_functions(functions: Sequence[Function], choice: FunctionChoice | None) -> tuple[list[Tool], ToolChoice | None]:
    """Return the tools and the choice that OpenAI's former fields `functions` and `function_call` stand for."""
    tools = [Tool(function=function) for function in functions]
    return tools, NamedToolChoice(function=choice) if isinstance(choice, NamedFunction) else choice


def must_follow(function: Function, choice: str | NamedToolChoice) -> bool:
    """Whether a call of this function must follow its schema: it must be called, or is strict."""
    named = isinstance(choice, NamedToolChoice) and choice.function.name == function.name
    return choice == "required" or named or bool(function.strict)


def check_parameters(function: Function, where: str, totals: Totals) -> None:
    """Raise `InvalidRequest` for a function whose schema a grammar could not hold. `where` is the path to the function."""
    try:
        check_schema(function.parameters, totals)
    except ValueError as error:
        where = f"{where}.parameters"
        raise InvalidRequest(f"{where}: {error}", parameter=where) from None


def with_function_call(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message or a delta with its first tool call in OpenAI's former form, `function_call`."""
    calls = message.get("tool_calls")
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return {**rest, "function_call": calls[0]["function"]} if calls else rest


def chosen(tools: Sequence[Tool], choice: ToolChoice | None) -> tuple[list[Tool], str | NamedToolChoice]:
    """Return the tools that the model sees, and the choice in the engine's form. Raises `ValueError` for a choice that names no tool."""
    by_name = {tool.function.name: tool for tool in tools}
    wanted = []
    if isinstance(choice, NamedToolChoice):
        wanted = [choice.function.name]
    if isinstance(choice, AllowedToolChoice):
        wanted = [tool.function.name for tool in choice.allowed_tools.tools]
    if choice == "required" and not tools:
        message = "a call is required, and there are no tools"
        raise ValueError(message)
    if missing := [name for name in wanted if name not in by_name]:
        message = f"{missing[0]} is not among the tools"
        raise ValueError(message)
    if isinstance(choice, AllowedToolChoice):
        return [by_name[name] for name in dict.fromkeys(wanted)], choice.allowed_tools.mode
    return list(tools), choice or "auto"
