"""Where an answer is in its thinking, and the legs that it is generated in; see `app.serving.legs`."""

from dataclasses import dataclass
from typing import Literal

Event = Literal["landed", "extended", "cut"]
"""What the server did to a thinking: announced its end, took the model's end of it back, or ended it."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What is taken back of the end of a leg: so many tokens, with so many characters of its text."""

    tokens: int
    chars: int


@dataclass(frozen=True, slots=True)
class Room:
    """What is left for a branch: `answer` tokens until the end of its answer, and `branch` tokens of them for this branch."""

    answer: int
    branch: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer is in its thinking: before it, within it, or behind it. A leg begins there.

    Attributes:
        mark: the text that ends the leg: before the thinking its start, within the thinking its end; None behind it.
        left: the most tokens of the leg; None for no limit.
        thought: within the thinking, the number of its tokens so far.
        breaks: further texts that end the leg.
        has_landed: whether the end of the thinking was announced.
        num_extended: how often the end of the thinking was taken back in this branch.
        event: what the server does before the leg, by writing the tokens `written`, after it took back `taken_back`.

    """

    mark: str | None = None
    left: int | None = None
    thought: int = 0
    breaks: tuple[str, ...] = ()
    has_landed: bool = False
    num_extended: int = 0
    event: Event | None = None
    written: tuple[int, ...] = ()
    taken_back: TakenBack | None = None


BEHIND = Place()
"""Behind the thinking, where nothing is watched any more."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What one call of the engine generated for a branch, and how the call ended; see `Output`."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    stop_reason: int | str | None = None
