"""Messages, their parts and tool calls as clients send them: OpenAI's shapes, and what its SDKs and vLLM's clients send besides."""

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_core import from_json

from app.api.body import Body

Name = Annotated[str, Field(min_length=1, max_length=256)]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]

TEXT = "text"
_TEXT_FIELDS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""The types of parts that are text, and the field of each that has the text."""

_MODALITIES = {"image_url": "image", "input_image": "image", "input_audio": "audio", "audio_url": "audio", "video_url": "video"}
"""The types of parts that are not text, and what the model must be able to read for each."""


class Part(Body):
    """A part of a message. Every type is accepted here; the model's abilities decide whether it is served."""

    without_effect: ClassVar[frozenset[str]] = frozenset(
        {"annotations", "cache_control", "logprobs", "prompt_cache_breakpoint"}
    )

    type: Annotated[str, Field(max_length=64)]
    _content: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def _names(cls) -> frozenset[str]:
        return frozenset({"type", "text", "refusal", "detail", *_MODALITIES})

    @model_validator(mode="wrap")
    @classmethod
    def _keep_content(cls, data: object, handler: Any) -> "Part":
        part: Part = handler(data)
        content = data if isinstance(data, dict) else {}
        field = _TEXT_FIELDS.get(part.type)
        if field is not None and not isinstance(content.get(field), str):
            message = f"a part of the type {part.type} needs the text `{field}`"
            raise ValueError(message)
        if field is None and part.type not in _MODALITIES:
            message = f"there is no part of the type {part.type}; there are {', '.join((*_TEXT_FIELDS, *_MODALITIES))}"
            raise ValueError(message)
        if field is not None:
            part._content = {"type": "text", "text": content[field]}
        elif part.modality == "image":
            part._content = {"type": "image_url", "image_url": {"url": _image_url(part.type, content)}}
        return part

    @property
    def text(self) -> str:
        """The text of the part, empty for a part that is not text."""
        return str(self._content.get("text", ""))

    @property
    def modality(self) -> str:
        """What the model must be able to read: `text`, `image`, `audio` or `video`."""
        return _MODALITIES.get(self.type, TEXT)

    def for_engine(self) -> dict[str, Any]:
        """Return the part as the engine takes it, an image with its URL. A part of another medium is empty: no model reads it."""
        return self._content


def _image_url(kind: str, part: dict[str, Any]) -> str:
    """Return the URL of an image, which chat completions wrap in an object and the Responses API does not."""
    if part.get("file_id") is not None:
        message = "this server keeps no files: send the image as a data URL in `image_url`"
        raise ValueError(message)
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str) or not url:
        where = "the text `image_url`" if kind == "input_image" else "`image_url` with the text `url`"
        message = f"a part of the type {kind} needs {where}"
        raise ValueError(message)
    return url


def _closed(text: str) -> str:
    """Return a JSON object that ended too early with all that was open closed; empty for anything else."""
    try:
        value = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else ""


class FunctionCall(Body):
    """The function and the arguments of a tool call."""

    name: ToolName
    arguments: str = "{}"

    @field_validator("arguments")
    @classmethod
    def _close_object(cls, value: str) -> str:
        """Return the arguments of a whole call as they came. Those of a call that was cut, which clients send back, are closed."""
        text = value or "{}"
        try:
            is_object = isinstance(json.loads(text), dict)
        except json.JSONDecodeError as error:
            text = "" if error.msg == "Extra data" else _closed(text)
            is_object = bool(text)
        except RecursionError:
            is_object = False
        if not is_object:
            message = "the arguments of a call must be a JSON object, written as text"
            raise ValueError(message)
        return text


class ToolCall(Body):
    """A tool call of an earlier assistant message."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"index"})

    id: Annotated[str, Field(max_length=256)] = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Body):
    """One message of the conversation."""

    without_effect: ClassVar[frozenset[str]] = frozenset(
        {"annotations", "audio", "id", "status", "type", "refusal", "cache_control", "token_ids", "provider_specific_fields"}
    )

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(max_length=1024)] | None = None
    name: Name | None = None
    reasoning: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Rewrite the former forms: `reasoning_content`, a function's message, and its call. A refusal is the content of its message."""
        if (reasoning := data.pop("reasoning_content", None)) is not None:
            data.setdefault("reasoning", reasoning)
        if data.get("role") == "function":
            data |= {"role": "tool", "tool_call_id": data.get("name", "")}
        if data.get("role") == "tool":
            data.setdefault("content", "")
        if (call := data.pop("function_call", None)) is not None:
            name = call.get("name", "") if isinstance(call, dict) else ""
            data.setdefault("tool_calls", [{"id": name, "type": "function", "function": call}])
        if not data.get("tool_calls"):
            data.pop("tool_calls", None)
        if isinstance(data.get("refusal"), str):
            data.setdefault("content", data["refusal"])
        return data

    @model_validator(mode="after")
    def _check_content(self) -> "Message":
        if self.content is None and not self.tool_calls and self.reasoning is None:
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

    @property
    def modalities(self) -> frozenset[str]:
        """What the model must be able to read besides text."""
        return (
            frozenset(part.modality for part in self.content if part.modality != TEXT)
            if isinstance(self.content, list)
            else frozenset()
        )

    def for_engine(self) -> dict[str, Any]:
        """Return the message as the engine takes it."""
        content = [part.for_engine() for part in self.content] if isinstance(self.content, list) else self.content
        return {**self.model_dump(exclude_none=True, exclude={"content"}), **({} if content is None else {"content": content})}
