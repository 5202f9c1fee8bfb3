"""Where the server may write into a thinking: at the end of a line, never within a character, a tool call, JSON or code."""

from dataclasses import dataclass
from typing import Self

from strategies.core.tool_calls import is_in_tool_call

LINE_BREAKS = ("\n",)
"""Texts that end a line."""

CHAR_REST = 3
"""The most tokens that are missing of a character, which has at most four bytes in UTF-8."""

LANDING_SHARE = 4
"""The thinking lands in the last quarter of its budget."""

LONGEST_LANDING = 256
"""Tokens of that part are no more than these: a model that is told to end has no use for more."""

_FENCE = "```"
_BLANK_LINE = "\n\n"


@dataclass(frozen=True, slots=True)
class LandingZone:
    """Where in a thinking its end is announced, in tokens of the thinking.

    Attributes:
        begin: from here on, at the end of a line.
        due: from here on, wherever no block is open.
        latest: no later than here, but for the rest of a character. Behind the announcement the model has at least half as many tokens.

    """

    begin: int
    due: int
    latest: int

    @classmethod
    def of(cls, budget: int, num_written: int) -> Self | None:
        """Return the zone for a budget and for an announcement of so many tokens. None where it would leave too little of the budget."""
        size = min(budget // LANDING_SHARE, LONGEST_LANDING)
        if size < 2 * num_written:
            return None
        begin = budget - size
        due = begin + (size - num_written) // 2
        return cls(begin, due, max(due, budget - 2 * num_written))


def is_whole(text: str) -> bool:
    """Return whether a text that was decoded ends with a whole character."""
    return not text.endswith("\N{REPLACEMENT CHARACTER}")


def ends_line(text: str) -> bool:
    """Return whether nothing but spaces follows the last line break."""
    return text.rstrip(" \t").endswith(LINE_BREAKS)


def is_in_block(text: str) -> bool:
    """Return whether a text ends within a tool call, a block of code, or braces: JSON, for example."""
    last = text.rstrip().rpartition(_BLANK_LINE)[2]
    return text.count(_FENCE) % 2 == 1 or is_in_tool_call(text) or last.count("{") > last.count("}")


def paragraph(before: str, text: str) -> str:
    """Return a text as a paragraph of its own behind another one, with the line breaks that are missing."""
    if not before.strip() or before.endswith(_BLANK_LINE):
        return text
    return ("\n" if before.endswith("\n") else _BLANK_LINE) + text
