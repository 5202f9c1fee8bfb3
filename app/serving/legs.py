"""Holds the thinking of a branch to its budget. The branch is generated in legs: until the thinking begins, the thinking, the answer.

Each leg is one call of the engine. It ends at a mark of the thinking, or when the budget is used up. Where the budget is used up, the
server writes the end of the thinking itself, and the next leg continues behind it. So legs meet only at the marks: stop strings,
penalties and grammars of the answer see one piece of text.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.engine.base import Engine, Prompt
from app.serving.thinking_tokens import Decode
from strategies.core.thinking import Thinking


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer is in its thinking: before it, within it, or behind it. A leg begins there.

    Attributes:
        mark: the text that ends the leg: before the thinking its start, within the thinking its end; None behind it.
        left: the most tokens of the leg. Within the thinking these are the tokens that are left of the budget. None for no limit.

    """

    mark: str | None = None
    left: int | None = None


BEHIND = Place()
"""Behind the thinking, where nothing is watched any more."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What one call of the engine generated for a branch, and how the call ended; see `Output`."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    stop_reason: int | str | None = None


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """The budget for the thinking of each answer to one prompt.

    Attributes:
        tokens: the most that an answer may think. The marks do not count.
        thinking: how the model marks its thinking.
        decode: of the engine.
        encode: of the engine.
        end_tokens: ids of tokens that end a turn of the conversation.
        stop: the caller's stop strings.
        min_tokens: the caller's least number of tokens. Before it, engines look for no stop string, and so for no mark either.

    """

    tokens: int
    thinking: Thinking
    decode: Decode
    encode: Callable[[str], tuple[int, ...]]
    end_tokens: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    min_tokens: int = 0

    def place(self, token_ids: tuple[int, ...]) -> Place:
        """Return where an answer is that continues these tokens. They are all tokens behind the prompt: earlier steps, or further turns."""
        text = self.decode(token_ids) if token_ids else ""
        if token_ids and text.rstrip().endswith(self.thinking.start):  # the answer, or the template, has just opened it
            return self._inside(0)
        if text.rstrip().endswith(self.thinking.end):  # or closed it
            return BEHIND
        if not self.end_tokens.isdisjoint(token_ids):  # a new turn has begun
            return Place(self.thinking.start)
        thought, answer = self.thinking.split(text)
        if answer is None:
            return self._inside(self._num_thought(token_ids))
        if self.thinking.is_open or thought or text.lstrip().startswith(self.thinking.start):
            return BEHIND
        begun = text.strip()
        if not self.thinking.start.startswith(begun):
            return BEHIND
        # Where the engine cannot find the start as a stop string, each token has a leg of its own.
        can_find = not begun and len(token_ids) >= self.min_tokens
        return Place(self.thinking.start, None if can_find else 1)

    def _inside(self, num_thought: int) -> Place:
        return Place(self.thinking.end, max(self.tokens - num_thought, 0))

    def _num_thought(self, token_ids: tuple[int, ...]) -> int:
        """Return how many of the tokens are thinking that has not ended: those behind its start, or all where the prompt has the start."""
        if not self.decode(token_ids).lstrip().startswith(self.thinking.start):
            return len(token_ids)
        # the fewest tokens in which the whole start stands
        first = 1 + bisect_left(
            range(1, len(token_ids)), True, key=lambda num: self.thinking.start in self.decode(token_ids[:num])
        )
        return len(token_ids) - first

    def after(self, place: Place, leg: Leg, token_ids: tuple[int, ...]) -> Place | None:
        """Return where an answer is behind a leg that began at `place`, None where the answer has ended.

        `token_ids` are all tokens that follow the prompt, those of the leg included.
        """
        if leg.stop_reason is not None and leg.stop_reason == place.mark and place.mark not in self.stop:
            if place.mark == self.thinking.end:
                return BEHIND
            return self._inside(0) if leg.text.strip() == place.mark else BEHIND  # within an answer the start means nothing
        if leg.finish_reason != "length" or place.left is None or len(leg.token_ids) < place.left:
            return None
        if place.mark == self.thinking.start:
            return self.place(token_ids)
        # The end of the thinking may have begun in an earlier step, or be a special token, which the text leaves out.
        seen = self.decode(token_ids[-len(leg.token_ids) - len(self.thinking.end) :])
        return BEHIND if self.thinking.end in seen else replace(place, left=0)

    def closing(self, token_ids: tuple[int, ...]) -> tuple[int, ...]:
        """Return the tokens that the server writes behind these ones to end the thinking: the mark, or what is missing of it."""
        end, end_ids = self.thinking.end, self.thinking.end_ids
        if len(self.encode(end)) == 1:  # parsers look for this token, so it is written whole
            return end_ids
        text = self.decode(token_ids[-len(end) :])
        written = next((size for size in range(len(end) - 1, 0, -1) if text.endswith(end[:size])), 0)
        return self.encode(end[written:]) if written else end_ids

    @property
    def stops_at_end(self) -> str | None:
        """The caller's stop string that is part of the end of the thinking. It ends the whole answer. None where there is none."""
        return next((stop for stop in self.stop if stop in self.thinking.end), None)

    def behind_mark(self, leg: Leg) -> str:
        """Return the text behind the mark that ended the leg: the last token of a mark may have more text than the mark."""
        if not isinstance(leg.stop_reason, str):
            return ""
        _, mark, behind = self.decode(leg.token_ids).rpartition(leg.stop_reason)
        return behind if mark else ""


def thinking_budget(engine: Engine, prompt: Prompt, tokens: int | None) -> ThinkingBudget | None:
    """Return the budget for the thinking of each answer, None where there is none, or the model does not think."""
    if tokens is None or prompt.thinking is None:
        return None
    return ThinkingBudget(
        tokens, prompt.thinking, engine.decode, engine.encode, engine.card.end_tokens, prompt.stop, prompt.min_tokens
    )
