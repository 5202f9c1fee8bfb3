"""Messages of Anthropic's API and their blocks."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from app.api.body import Body
from app.api.messages import ToolName
from app.api.output_formats import check_size

_REQUIRED: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("source",),
    "document": ("source",),
    "search_result": ("content",),
    "thinking": ("thinking",),
    "redacted_thinking": (),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id",),
}
"""The types of blocks that are served, and the fields that each must have."""

_OF_SERVER_TOOLS = frozenset({"server_tool_use", "mcp_tool_use", "mcp_tool_result", "container_upload", "tool_reference"})


class Part(Body):
    """A block inside another block, of a tool's result for example."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"cache_control", "caller", "citations", "context", "toolset_name"})

    type: Annotated[str, Field(max_length=64)]
    text: str | None = None
    source: dict[str, Any] | None = None
    title: str | None = None

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Empty a block that tools of Anthropic's own servers left in the conversation: this server has none of these tools."""
        kind = data.get("type")
        return {"type": kind} if isinstance(kind, str) and is_of_server_tool(kind) else data

    @field_validator("source", "input", mode="before", check_fields=False)
    @classmethod
    def _check_depth(cls, value: object) -> object:
        return value if isinstance(value, dict) and "data" in value else check_size(value)

    @model_validator(mode="after")
    def _check_fields(self) -> "Part":
        if is_of_server_tool(self.type):
            return self
        if self.type not in _REQUIRED:
            message = f"there is no block of the type {self.type}; there are {', '.join(_REQUIRED)}"
            raise ValueError(message)
        if missing := [name for name in _REQUIRED[self.type] if getattr(self, name, None) is None]:
            message = f"a block of the type {self.type} needs `{missing[0]}`"
            raise ValueError(message)
        _ = self.parts_for_engine  # raises for what cannot be read
        return self

    @property
    def parts_for_engine(self) -> list[dict[str, Any]]:
        """The block as parts of a message of OpenAI's; none for a block that is neither a text nor an image."""
        if self.type == "text":
            return [_text(self.text or "")]
        if self.type == "image":
            return [{"type": "image_url", "image_url": {"url": _url(self.source or {})}}]
        if self.type == "document":
            return [_text(_document(self.source or {}, self.title))]
        return []


class Block(Part):
    """A block of a message."""

    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: Annotated[str, Field(max_length=256)] | None = None
    name: ToolName | None = None
    input: dict[str, Any] | None = None
    tool_use_id: Annotated[str, Field(max_length=256)] | None = None
    content: str | Annotated[list[Part], Field(max_length=1024)] | None = None
    is_error: bool = False

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Put the source of a search result into its title: it is a text there, and an object in all other blocks."""
        data = dict(super().prepared(data))
        if data.get("type") == "search_result":
            data["title"] = f"{data.get('title', '')} ({data.pop('source', '')})"
        return data

    @property
    def parts_for_engine(self) -> list[dict[str, Any]]:
        """The block as parts of a message of OpenAI's, a search result with its title."""
        if self.type != "search_result":
            return super().parts_for_engine
        return [_text(f"{self.title}\n"), *self.content_for_engine]

    @property
    def content_for_engine(self) -> list[dict[str, Any]]:
        """What is in the block, as parts of a message of OpenAI's."""
        if isinstance(self.content, str):
            return [_text(self.content)]
        return [part for block in self.content or [] for part in block.parts_for_engine]


class Message(Body):
    """One message of the conversation."""

    without_effect: ClassVar[frozenset[str]] = frozenset(
        {"id", "type", "model", "stop_reason", "stop_sequence", "stop_details", "usage", "container", "diagnostics", "ponder"}
    )

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        """The blocks of the message; a text is one block."""
        return [Block(type="text", text=self.content)] if isinstance(self.content, str) else self.content


def is_of_server_tool(kind: str) -> bool:
    """Return whether blocks of this type belong to a tool of Anthropic's own servers."""
    return kind in _OF_SERVER_TOOLS or kind.endswith("_tool_result")


def texts(blocks: str | list[Block] | None) -> Iterator[str]:
    """Yield the texts of a system prompt, but not the header with which one client signs each request: it would spoil the prefix cache."""
    if isinstance(blocks, str):
        yield blocks
        return
    for block in blocks or []:
        if block.text and not block.text.startswith("x-anthropic-billing-header"):
            yield block.text


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _url(source: dict[str, Any]) -> str:
    url, data = source.get("url"), source.get("data")
    if source.get("type") == "url" and isinstance(url, str):
        return url
    if source.get("type") == "base64" and isinstance(data, str):
        return f"data:{source.get('media_type', 'image/jpeg')};base64,{data}"
    message = "the source of an image is of the type base64, with `data`, or url, with `url`"
    raise ValueError(message)


def _document(source: dict[str, Any], title: str | None) -> str:
    content = source.get("data") if source.get("type") == "text" else source.get("content")
    if isinstance(content, list):
        content = "".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    if source.get("type") not in ("text", "content") or not isinstance(content, str):
        message = (
            "only the text of a document can be read: its source is of the type text, with `data`, or content, with `content`"
        )
        raise ValueError(message)
    return f"{title}\n{content}" if title else content
