"""Turns a body of the Responses API into one of chat completions, which has the same meaning everywhere behind the API."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from app.api.errors import first_fault
from app.api.fields import RESPONSES_AS_IN_CHAT
from app.api.requests import Origin, chat_request, named_in_reply
from app.api.responses.schemas import Item, ResponsesRequest
from app.api.schemas import ChatRequest
from app.errors import InvalidRequest
from app.request import InferenceRequest

_RENAMED = {
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "messages": "input",
}
"""From a field of chat completions to the field of this API that it came from."""

_DROPPED = frozenset({"id", "status", "type", "phase"})


@dataclass(frozen=True, slots=True)
class Converted:
    """A body in the form of the service.

    Attributes:
        chat: the same request as a body of chat completions.
        request: what the service runs.
        tools: the functions that the model may call, in the flat form.
        tool_choice: the choice among them.
        positions: of the item that each message came from; -1 for the instructions.

    """

    chat: ChatRequest
    request: InferenceRequest
    tools: Sequence[Item]
    tool_choice: str | Mapping[str, Any]
    positions: Sequence[int]


def converted(body: ResponsesRequest, items: Sequence[Item], origin: Origin) -> Converted:
    """Return the request for a conversation of `items`, or raise `InvalidRequest` or `NotFound` with this API's names of fields."""
    tools, other_tools = _functions(body.tools)
    tool_positions = [position for position, tool in enumerate(body.tools) if tool.get("type") == "function"]
    choice = _choice(body.tool_choice)
    messages, positions, other_items = _messages(body, items)
    left_out = {"tools": other_tools, "items": other_items, "tool choices": [] if choice is not None else ["tool_choice"]}
    data: dict[str, Any] = {
        **{name: getattr(body, name) for name in RESPONSES_AS_IN_CHAT if name in body.model_fields_set},
        "messages": messages,
        "max_completion_tokens": body.max_output_tokens,
        "tools": [{"type": "function", "function": _without(tool, {"type"})} for tool in tools],
        "tool_choice": _for_chat(choice or "auto"),
        "response_format": _format(body.text.format),
        "reasoning_effort": body.reasoning and body.reasoning.effort,
        "logprobs": body.has_logprobs,
        "top_logprobs": body.top_logprobs,
        "stream": body.stream,
        "store": body.store,
    }
    with own_names(positions, tool_positions):
        chat = ChatRequest.model_validate(data)
        ignored = [*body.ignored_fields(), *(_own_name(name, positions, tool_positions) for name in chat.ignored_fields())]
        request = chat_request(chat, origin)
    notes = tuple(f"{kind} that are not served were left out: {', '.join(names)}" for kind, names in left_out.items() if names)
    request = replace(request, ignored_fields=named_in_reply(ignored, origin), notes=notes)
    return Converted(chat, request, tools, choice or "auto", positions)


@contextmanager
def own_names(positions: Sequence[int] = (), tool_positions: Sequence[int] = ()) -> Iterator[None]:
    """Raise the errors about fields of chat completions with the names of this API's fields.

    Args:
        positions: of the item that each message came from; -1 for the instructions.
        tool_positions: of the tool that each function came from.

    """
    try:
        yield
    except (InvalidRequest, ValidationError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else error
        if fault.parameter is None or (name := _own_name(fault.parameter, positions, tool_positions)) == fault.parameter:
            raise fault from None
        message = str(fault).replace(fault.parameter, name, 1)
        raise type(fault)(message, parameter=name) from None


def _own_name(name: str, positions: Sequence[int], tool_positions: Sequence[int]) -> str:
    """Return this API's name of a field of chat completions, such as `input.2.content` for `messages.1.content`."""
    head, _, rest = name.partition(".")
    number, _, inner = rest.partition(".")
    if head == "messages" and number.isdigit() and int(number) < len(positions):
        position = positions[int(number)]
        return ".".join(filter(None, ("instructions" if position < 0 else f"input.{position}", inner)))
    if head == "tools":
        if number.isdigit() and int(number) < len(tool_positions):
            number = str(tool_positions[int(number)])
        return ".".join(filter(None, (head, number, inner.removeprefix("function").removeprefix("."))))
    for theirs, ours in _RENAMED.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name[len(theirs) :]
    return name


def _functions(tools: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """Return the tools that are functions, and the types of the others."""
    functions = [tool for tool in tools if tool.get("type") == "function"]
    others = [_kind(tool) for tool in tools if tool.get("type") != "function"]
    return [_without(tool, {"async", "defer_loading", "allowed_callers"}) for tool in functions], list(dict.fromkeys(others))


def _kind(item: Item) -> str:
    kind = item.get("type")
    return kind[:64] if isinstance(kind, str) else "without a type"


def _choice(choice: str | Mapping[str, Any]) -> str | Mapping[str, Any] | None:
    """Return the choice; None for one of tools that are not functions."""
    if isinstance(choice, str):
        return choice
    if choice.get("type") == "function":
        return choice
    if choice.get("type") == "allowed_tools":
        tools = choice.get("tools")
        named = (
            [one for one in tools if isinstance(one, dict) and one.get("type") == "function"] if isinstance(tools, list) else []
        )
        return {**choice, "tools": named} if named else None
    return None


def _for_chat(choice: str | Mapping[str, Any]) -> Any:
    if isinstance(choice, str):
        return choice
    if choice["type"] == "function":
        return {"type": "function", "function": _without(choice, {"type"})}
    named = [{"type": "function", "function": {"name": one.get("name")}} for one in choice["tools"]]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode", "auto"), "tools": named}}


def _format(form: Mapping[str, Any]) -> dict[str, Any] | None:
    if form.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": _without(form, {"type"})}
    return None if form == {"type": "text"} else dict(form)


def _messages(body: ResponsesRequest, items: Sequence[Item]) -> tuple[list[Item], list[int], list[str]]:
    """Return the messages, the position of the item that each came from (-1 for the instructions), and the types left out."""
    messages: list[Item] = [] if body.instructions is None else [{"role": "system", "content": body.instructions}]
    positions = [-1] * len(messages)
    others: list[str] = []
    for position, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "function_call":
            call = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
            made = {"id": item.get("call_id", ""), "type": "function", "function": call}
            if messages and messages[-1]["role"] == "assistant":
                before = messages[-1].get("tool_calls") or []
                if isinstance(before, list):  # what is no list is refused with the message
                    messages[-1]["tool_calls"] = [*before, made]
                continue
            messages.append({"role": "assistant", "tool_calls": [made]})
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
        elif kind == "message":
            messages.append({**_without(item, _DROPPED), "role": item.get("role"), "content": item.get("content")})
        else:
            if kind != "reasoning":
                others.append(_kind(item))
            continue
        positions.append(position)
    if not messages:
        raise InvalidRequest("input: a text or an item is needed, such as a message of the user.", parameter="input")
    return messages, positions, list(dict.fromkeys(others))


def _without(data: Mapping[str, Any], names: set[str] | frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in names}


def items_of(body: ResponsesRequest, before: Sequence[Item]) -> list[Item]:
    """Return the items of a conversation: those before it, and those of the input. A text is a message of the user."""
    given = [{"type": "message", "role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    return [*before, *given]
