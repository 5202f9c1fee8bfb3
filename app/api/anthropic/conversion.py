"""Turns a body of Anthropic's API into one of chat completions, from which the request is made: a field means the same in both."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from app.api.anthropic.blocks import Block, Message, texts
from app.api.anthropic.schemas import CountTokensRequest, MessagesRequest, Tool
from app.api.body import INT64
from app.api.errors import first_fault
from app.api.ponder_options import BudgetBody, PonderOptions
from app.api.requests import Origin, chat_request, named_in_reply
from app.api.schemas import ChatRequest
from app.errors import InvalidRequest
from app.request import InferenceRequest

SEARCH = "ponder.search"
"""The signature of a thinking block with the progress of a search. Such a block is left out of the next prompt: no model thought it."""

MODEL = "ponder.model"
"""The signature of a thinking block with what the model thought."""


def messages_request(body: CountTokensRequest, origin: Origin) -> InferenceRequest:
    """Return the request of a conversation, or raise `InvalidRequest` or `NotFound`."""
    ignored = named_in_reply(body.ignored_fields(), origin)
    skipped = [tool for tool in body.tools or [] if not tool.is_custom]
    notes = [f"skipped tools: {', '.join(tool.type for tool in skipped)}; this server runs no tools"] if skipped else []
    try:
        chat = ChatRequest.model_validate(_chat_body(body))
        request = chat_request(chat, origin)
    except (ValidationError, InvalidRequest) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else error
        message, parameter = (_renamed(text, body) for text in (str(fault), fault.parameter or ""))
        raise type(fault)(message, parameter=parameter or None) from None
    return replace(request, ignored_fields=ignored, notes=tuple(notes))


@contextmanager
def own_names(body: CountTokensRequest) -> Iterator[None]:
    """Raise an error about a message of the chat, which may be one of several made of a message, with the name that it has in this API."""
    try:
        yield
    except InvalidRequest as error:
        found = re.fullmatch(r"messages\.(\d+)\..*", error.parameter or "")
        if found is None or error.parameter is None:
            raise
        positions = [position for position, message in enumerate(body.messages) for _ in _messages(message)]
        number = int(found[1]) - len(list(_system(body)))
        name = f"messages.{positions[number]}" if number >= 0 else "system"
        raise type(error)(str(error).replace(error.parameter, name, 1), parameter=name) from error


def _renamed(text: str, body: CountTokensRequest) -> str:
    """Return a text with this API's names of fields, and the positions of its tools, of which only some are served."""
    served = [position for position, tool in enumerate(body.tools or ()) if tool.is_custom]
    text = re.sub(r"^tools\.(\d+)", lambda match: f"tools.{served[int(match[1])]}", text)
    return text.replace("function.parameters", "input_schema").replace("response_format.json_schema", "output_config.format")


def _chat_body(body: CountTokensRequest) -> dict[str, Any]:
    config, choice = body.output_config, body.tool_choice
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": [*_system(body), *(one for message in body.messages for one in _messages(message))],
        "tools": [_tool(tool) for tool in body.tools or [] if tool.is_custom],
        "reasoning_effort": (config and config.effort) or ("none" if _is_disabled(body) else None),
        "chat_template_kwargs": {**_thinking_variables(body), **(body.chat_template_kwargs or {})} or None,
        "continue_final_message": _is_continued(body.messages[-1]) or None,
    }
    if choice is not None:
        named = {"type": "function", "function": {"name": choice.name}}
        fields["tool_choice"] = {"any": "required", "tool": named}.get(choice.type, choice.type)
        fields["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if config is not None and config.format is not None:
        fields["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": config.format.json_schema},  # vLLM wants a name; Anthropic has none
        }
    if isinstance(body, MessagesRequest):
        fields |= {
            name: getattr(body, name)
            for name in ("max_tokens", "temperature", "top_p", "top_k", "stream", "cache_salt", "store")
        }
        fields |= {"stop": body.stop_sequences or None, "ponder": _options(body)}
    return fields


def _options(body: MessagesRequest) -> PonderOptions | None:
    """Return the `ponder` object, with the budget for thinking: of each answer, and of what a search generates besides one answer.

    A `ponder.budget` of the caller takes the place of the second.
    """
    thinking, options = body.thinking, body.ponder or PonderOptions()
    if thinking is None or (tokens := thinking.budget_tokens) is None:
        return body.ponder
    budget = options.budget or BudgetBody(tokens=min(tokens + body.max_tokens, INT64))
    if budget.thinking_tokens is None:
        budget = budget.model_copy(update={"thinking_tokens": tokens})
    return options.model_copy(update={"budget": budget})


def _is_disabled(body: CountTokensRequest) -> bool:
    return body.thinking is not None and body.thinking.type == "disabled"


def _thinking_variables(body: CountTokensRequest) -> dict[str, bool]:
    """Return the variable with which many chat templates turn thinking on and off; others do not read it."""
    return {} if body.thinking is None else {"enable_thinking": not _is_disabled(body)}


def _is_continued(last: Message) -> bool:
    """Return whether the answer continues the last message: the caller wrote how it begins."""
    return last.role == "assistant" and last.blocks[-1:] != [] and last.blocks[-1].type == "text" and bool(last.blocks[-1].text)


def _system(body: CountTokensRequest) -> Iterator[dict[str, Any]]:
    """Yield one system message. Many chat templates refuse one that is not the first, so later ones are added to it."""
    found = [*texts(body.system), *(text for one in body.messages if one.role == "system" for text in texts(one.blocks))]
    if found:
        yield {"role": "system", "content": "\n\n".join(found)}


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    if message.role == "assistant":
        yield _assistant(message.blocks)
    if message.role == "user":
        yield from _user(message.blocks)


def _assistant(blocks: list[Block]) -> dict[str, Any]:
    thoughts = [block.thinking or "" for block in blocks if block.type == "thinking" and block.signature != SEARCH]
    calls = [
        {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": json.dumps(block.input)}}
        for block in blocks
        if block.type == "tool_use"
    ]
    text = "".join(block.text or "" for block in blocks if block.type == "text")
    return {
        "role": "assistant",
        "content": text or (None if calls else ""),
        "reasoning": "\n".join(thoughts) or None,
        "tool_calls": calls or None,
    }


def _user(blocks: list[Block]) -> Iterator[dict[str, Any]]:
    """Yield the results of tools, then what the user says and shows. An image that a tool returned is shown by the user."""
    shown: list[dict[str, Any]] = []
    has_results = False
    for block in blocks:
        if block.type == "tool_result":
            has_results = True
            parts = block.content_for_engine
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            shown += [part for part in parts if part["type"] != "text"]
            yield {
                "role": "tool", "tool_call_id": block.tool_use_id, "content": f"Error: {text}" if block.is_error else text
            }  # fmt: skip
        else:
            shown += block.parts_for_engine
    if shown or not has_results:
        yield {"role": "user", "content": shown or ""}


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema, "strict": tool.strict}
    return {"type": "function", "function": function}
