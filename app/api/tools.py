"""The tools that a model may call, and the choice among them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.body import Body
from app.api.messages import ToolName


class Function(Body):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


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


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice | AllowedToolChoice


def from_functions(data: dict[str, Any]) -> dict[str, Any]:
    """Return a body with OpenAI's former fields `functions` and `function_call` rewritten to `tools` and `tool_choice`."""
    functions, call = data.pop("functions", None), data.pop("function_call", None)
    if functions and "tools" not in data:
        is_list = isinstance(functions, list)
        data["tools"] = [{"type": "function", "function": one} for one in functions] if is_list else functions
    if call is not None and "tool_choice" not in data:
        data["tool_choice"] = {"type": "function", "function": call} if isinstance(call, dict) else call
    return data


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
