"""How much the caller wants to be thought."""

from enum import StrEnum


class Effort(StrEnum):
    """How much compute a point of accuracy is worth to the caller."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


_FROM_OPENAI = {
    "none": Effort.LOW,
    "minimal": Effort.LOW,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.HIGH,
}


def effort_of(effort: Effort | None, reasoning_effort: str | None) -> Effort:
    """The caller's own effort, else OpenAI's `reasoning_effort`, else medium."""
    return effort or _FROM_OPENAI.get(reasoning_effort or "", Effort.MEDIUM)
