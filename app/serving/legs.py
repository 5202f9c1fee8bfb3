"""Holds the thinking of a branch to its budget. The branch is generated in legs: until the thinking begins, the thinking, the answer.

Each leg is one call of the engine. It ends at a mark of the thinking, or when the budget is used up. Where the budget is used up, the
server writes the end of the thinking itself, and the next leg continues behind it. So stop strings, penalties and grammars of the answer
see one piece of text.

The thinking itself may have several legs: near the end of the budget the server writes a sentence into it, so that the model ends it
(`landing`), and where the model ends it too early, the server takes the end back (`least`). `app.serving.seams` says where.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.engine.base import Engine, Prompt
from app.metering.budget import Budget
from app.serving import seams
from app.serving.places import BEHIND, Leg, Place, Room, TakenBack
from app.serving.thinking_tokens import Decode
from strategies.core.thinking import Thinking
from strategies.core.tool_calls import is_in_tool_call

ANSWER_ROOM = 256
"""Tokens that a budget for thinking leaves for the answer, where `ANSWER_SHARE` is not less: a short explanation and a result."""

ANSWER_SHARE = 4
"""A quarter of the tokens of thinking and answer together is enough room for the answer, however few they are."""

HESITATION = "Wait"
"""What is written where an end of the thinking is taken back (s1)."""

MAX_EXTENSIONS = 4
"""How often the end of one branch's thinking is taken back. A model that ends it once more has nothing to add."""


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """The budget for the thinking of each answer to one prompt.

    Attributes:
        tokens: the most that an answer may think; None for no limit. The marks do not count, other tokens that the server writes do.
        thinking: how the model marks its thinking.
        decode: of the engine.
        encode: of the engine.
        end_tokens: ids of tokens that end a turn of the conversation.
        stop: the caller's stop strings.
        min_tokens: the caller's least number of tokens. Before it, engines look for no stop string, and so for no mark either.
        landing: the sentence that announces the end; empty for none.
        least: the fewest tokens that an answer should think.
        has_tools: whether the model may call tools.

    """

    tokens: int | None
    thinking: Thinking
    decode: Decode
    encode: Callable[[str], tuple[int, ...]]
    end_tokens: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    landing: str = ""
    least: int = 0
    has_tools: bool = False

    def within(self, place: Place, share: int | None) -> "ThinkingBudget":
        """Return the budget of a branch that begins at a place, and may think no more than its share from there on."""
        if share is None:
            return self
        most = place.thought + share
        return replace(self, tokens=most if self.tokens is None else min(self.tokens, most))

    def place(self, token_ids: tuple[int, ...]) -> Place:
        """Return where an answer is that continues these tokens. They are all tokens behind the prompt: earlier steps, or further turns."""
        text = self.decode(token_ids) if token_ids else ""
        if token_ids and text.rstrip().endswith(self.thinking.start):  # the answer, or the template, has just opened it
            return Place(self.thinking.end)
        if text.rstrip().endswith(self.thinking.end):  # or closed it
            return BEHIND
        if not self.end_tokens.isdisjoint(token_ids):  # a new turn has begun
            return Place(self.thinking.start)
        thought, answer = self.thinking.split(text)
        if answer is None:
            has_landed = bool(self.landing) and self.landing in thought
            return Place(self.thinking.end, thought=self._num_thought(token_ids), has_landed=has_landed)
        if self.thinking.is_open or thought or text.lstrip().startswith(self.thinking.start):
            return BEHIND
        begun = text.strip()
        if not self.thinking.start.startswith(begun):
            return BEHIND
        # Where the engine cannot find the start as a stop string, each token has a leg of its own.
        can_find = not begun and len(token_ids) >= self.min_tokens
        return Place(self.thinking.start, None if can_find else 1)

    def _num_thought(self, token_ids: tuple[int, ...]) -> int:
        """Return how many of the tokens are thinking that has not ended: those behind its start, or all where the prompt has the start."""
        if not self.decode(token_ids).lstrip().startswith(self.thinking.start):
            return len(token_ids)
        # the fewest tokens in which the whole start stands
        first = 1 + bisect_left(
            range(1, len(token_ids)), True, key=lambda num: self.thinking.start in self.decode(token_ids[:num])
        )
        return len(token_ids) - first

    def begin(self, place: Place, token_ids: tuple[int, ...], room: Room) -> Place:
        """Return a place with where its leg ends, and with what the server writes before it.

        `token_ids` are all tokens that follow the prompt.
        """
        room = replace(room, answer=room.answer - len(place.written))
        if place.mark != self.thinking.end or (most := self._most(place.thought, room)) is None:
            return place
        thought = self.decode(token_ids[len(token_ids) - place.thought :]) if place.thought else ""
        if place.thought >= most:
            if self.has_tools and is_in_tool_call(thought):  # with parsers of several models, a call ends the thinking
                return BEHIND
            if place.thought < most + seams.CHAR_REST and not seams.is_whole(thought):
                return replace(place, left=1)
            return Place(event="cut", written=self.closing(token_ids))
        left = most - place.thought
        if place.event is not None or place.has_landed or not self.landing:
            return replace(place, left=left)
        return self._approach(place, thought, most, room) or replace(place, left=left)

    def _approach(self, place: Place, thought: str, most: int, room: Room) -> Place | None:
        """Return a place from which the thinking lands at the next seam, None where it is too late for it, or the budget too short."""
        written = self.encode(seams.paragraph(thought, self.landing))
        zone = seams.LandingZone.of(most, len(written))
        if zone is None or place.thought > zone.latest + seams.CHAR_REST:
            return None
        if place.thought < zone.begin:
            return replace(place, left=zone.begin - place.thought)
        is_due = place.thought >= zone.due or seams.ends_line(thought)
        if is_due and not seams.is_in_block(thought):
            if not seams.is_whole(thought) or self._begun_end(thought):
                return replace(place, left=1)
            if len(written) < room.branch:
                num = place.thought + len(written)
                return replace(place, left=most - num, thought=num, has_landed=True, event="landed", written=written)
        left = (zone.due if place.thought < zone.due else zone.latest) - place.thought
        return replace(place, left=left, breaks=seams.LINE_BREAKS) if left > 0 else None

    def _most(self, thought: int, room: Room) -> int | None:
        """Return the most tokens of a thinking that has so many already, None for no limit. They leave room for the end and an answer."""
        return None if self.tokens is None else min(self.tokens, self._spare(thought, room))

    def _spare(self, thought: int, room: Room) -> int:
        total = thought + room.answer
        least_answer = min(ANSWER_ROOM, total // ANSWER_SHARE)
        return max(total - least_answer - len(self.thinking.end_ids), 0) if least_answer else total

    def after(self, place: Place, leg: Leg, token_ids: tuple[int, ...], room: Room) -> Place | None:
        """Return where an answer is behind a leg that began at `place`, None where the answer has ended.

        `token_ids` are all tokens that follow the prompt, those of the leg included.
        """
        rest = replace(place, left=None, breaks=(), event=None, written=(), taken_back=None)
        rest = replace(rest, thought=place.thought + len(leg.token_ids))
        if leg.stop_reason is not None and leg.stop_reason == place.mark and place.mark not in self.stop:
            if place.mark == self.thinking.end:
                return self._extended(place, leg, token_ids, room) or BEHIND
            # within an answer the start means nothing
            return Place(self.thinking.end) if leg.text.strip() == place.mark else BEHIND
        is_broken = leg.stop_reason is not None and leg.stop_reason in place.breaks and leg.stop_reason not in self.stop
        is_full = leg.finish_reason == "length" and place.left is not None and len(leg.token_ids) >= place.left
        if not is_broken and not is_full:
            return None
        if place.mark == self.thinking.start:
            return self.place(token_ids)
        # The end of the thinking may have begun in an earlier step, or be a special token, which the text leaves out.
        seen = self.decode(token_ids[-len(leg.token_ids) - len(self.thinking.end) :])
        return BEHIND if self.thinking.end in seen else rest

    @property
    def longest_end(self) -> int:
        """The most tokens that are taken back with an end of the thinking. Each has at least one character of it, or is part of one."""
        return len(self.thinking.end) + seams.CHAR_REST

    def can_extend(self, place: Place) -> bool:
        """Return whether the end of the thinking would be taken back, if the model wrote it now."""
        is_inside = place.mark == self.thinking.end and not place.has_landed
        return is_inside and place.thought < self.least and place.num_extended < MAX_EXTENSIONS

    def _extended(self, place: Place, leg: Leg, token_ids: tuple[int, ...], room: Room) -> Place | None:
        """Return a place from which the thinking goes on instead of ending with this leg, None where it has ended."""
        whole = self.decode(leg.token_ids)
        end, num = whole.rfind(self.thinking.end), len(leg.token_ids)
        while num and not whole[: max(end, 0)].startswith(self.decode(leg.token_ids[:num])):
            num -= 1
        thought = place.thought + num
        if end < 0 or not self.can_extend(replace(place, thought=thought)):
            return None
        # the last token before the mark may have a part of it: the text before that part is written again
        rest = whole[len(self.decode(leg.token_ids[:num])) : end]
        before = self.decode(
            token_ids[len(token_ids) - len(leg.token_ids) - place.thought : len(token_ids) - len(leg.token_ids) + num]
        )
        if self.has_tools and is_in_tool_call(before + rest):
            return None
        taken_back = TakenBack(len(leg.token_ids) - num, len(rest) + len(self.thinking.end))
        rest = rest.rstrip(" ")
        written = self.encode(rest + seams.paragraph(before + rest, HESITATION))
        num_thought = thought + len(written)
        most = self._spare(num_thought, replace(room, answer=room.answer - len(written)))
        most = most if self.tokens is None else min(most, self.tokens)
        if num_thought >= most or len(written) >= room.branch:
            return None
        return replace(
            place, left=None, breaks=(), thought=num_thought, num_extended=place.num_extended + 1,
            event="extended", written=written, taken_back=taken_back,
        )  # fmt: skip

    def closing(self, token_ids: tuple[int, ...]) -> tuple[int, ...]:
        """Return the tokens that the server writes behind these ones to end the thinking: the mark, or what is missing of it."""
        end, end_ids = self.thinking.end, self.thinking.end_ids
        if len(self.encode(end)) == 1:  # parsers look for this token, so it is written whole
            return end_ids
        begun = self._begun_end(self.decode(token_ids[-len(end) :]))
        return self.encode(end[begun:]) if begun else end_ids

    def _begun_end(self, text: str) -> int:
        """Return how many characters of the end of the thinking a text ends with, but for the whole end."""
        end = self.thinking.end
        return next((size for size in range(len(end) - 1, 0, -1) if text.endswith(end[:size])), 0)

    @property
    def stops_at_end(self) -> str | None:
        """The caller's stop string that is part of the end of the thinking. It ends the whole answer. None where there is none."""
        return next((stop for stop in self.stop if stop in self.thinking.end), None)

    def behind_mark(self, leg: Leg) -> str:
        """Return the text behind the mark that ended the leg: the last token of a mark may have more text than the mark."""
        if not isinstance(leg.stop_reason, str):
            return ""
        whole = self.decode(leg.token_ids)
        if whole.startswith(leg.text):
            return whole[len(leg.text) :]
        _, mark, behind = whole.rpartition(leg.stop_reason)  # special tokens are not in the text
        return behind if mark else ""


def thinking_budget(engine: Engine, prompt: Prompt, budget: Budget, *, has_tools: bool = False) -> ThinkingBudget | None:
    """Return the budget for the thinking of each answer, None where there is none, or the model does not think."""
    limits = (budget.thinking_tokens, budget.total_thinking_tokens, budget.min_thinking_tokens)
    if prompt.thinking is None or limits == (None, None, None):
        return None
    sentence = (budget.thinking_landing or "").strip()
    landing = engine.decode(engine.encode(sentence)) if sentence and is_sentence(engine, prompt.thinking, sentence) else ""
    return ThinkingBudget(
        budget.thinking_tokens,
        prompt.thinking,
        engine.decode,
        engine.encode,
        engine.card.end_tokens,
        prompt.stop,
        prompt.min_tokens,
        landing=landing,
        least=budget.min_thinking_tokens or 0,
        has_tools=has_tools,
    )


def is_sentence(engine: Engine, thinking: Thinking, text: str) -> bool:
    """Return whether a text can stand in a thinking: it has no mark of it, no special token, and does not begin a tool call."""
    token_ids = engine.encode(text)
    written = engine.decode(token_ids)  # tokenizers may normalise
    has_mark = any(mark in one for mark in (thinking.start, thinking.end) for one in (text, written))
    special_tokens = engine.card.end_tokens | engine.card.special_tokens
    return not has_mark and special_tokens.isdisjoint(token_ids) and not is_in_tool_call(written)
