"""Where tool calls stand in the text of a model."""

_MARKS = (
    ("<tool_call>", "</tool_call>"),
    ("<tool_calls>", "</tool_calls>"),
    ("<|tool_call>", "<tool_call|>"),
    ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    ("<minimax:tool_call>", "</minimax:tool_call>"),
    ("[TOOL_CALLS]", "\0"),  # without an end
)
"""Texts before and behind tool calls, by the families of models."""


def is_in_tool_call(text: str, *, begins_in_call: bool = False) -> bool:
    """Return whether a text, which may begin within a tool call, ends within one."""
    begin, end = (max(map(text.rfind, marks)) for marks in zip(*_MARKS, strict=True))
    return begins_in_call if begin == end else begin > end
