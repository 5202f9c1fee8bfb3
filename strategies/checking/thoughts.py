"""A thought while it is written, and the transitions in it: places where the model turns to another thought ("Wait")."""

import asyncio
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from strategies.core.thinking import Thinking
from strategies.core.tool_calls import is_in_tool_call
from strategies.core.values import Delta, TokenLogprob

TRANSITIONS = ("Wait", "Alternatively", "But", "Hmm", "\n\n")
"""What begins another thought: these words at the beginning of a line, and a blank line. The families of models that think
(DeepSeek-R1, Qwen3, QwQ, Magistral) share them."""

LONGEST_WORD = 64
"""The most characters of a word that marks a transition."""

_FARTHEST = LONGEST_WORD + 16
"""Characters behind a line break within which a transition shows."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A place where a thought turns.

    Attributes:
        num_tokens: number of whole tokens before it.
        seen: number of tokens that the thought had when the transition could be told. It is a fact of the text, not of the time.

    """

    num_tokens: int
    seen: int


class Thought:
    """What one branch has written so far, and the transitions of its thinking.

    Attributes:
        token_ids: of all that was written, the answer behind the thinking included.
        said: their text as the engine gave it.
        has_ended: the branch has ended.

    """

    def __init__(self, thinking: Thinking, transitions: Sequence[str]) -> None:
        self._thinking = thinking
        self._pattern = _pattern(transitions)
        self._transitions: list[Transition] = []
        self._text = ""
        self._ends: list[int] = []  # number of characters up to the end of each token
        self._begin: int | None = 0 if thinking.is_open else None  # where the thinking begins
        self._line = 0  # where the last line begins, with the break before it
        self._last = 0  # where the last transition is
        self._in_call = False  # whether that is within a tool call, where no thought may end
        self._num_thinking: int | None = None
        self._grown = asyncio.Event()
        self.token_ids: list[int] = []
        self.said = ""
        self.has_ended = False

    @property
    def num_thought(self) -> int:
        """The number of tokens so far that do not end the thinking, nor come behind its end."""
        return len(self.token_ids) if self._num_thinking is None else self._num_thinking

    @property
    def is_over(self) -> bool:
        """Whether its thinking has ended."""
        return self.has_ended or self._num_thinking is not None

    def text_before(self, transition: Transition) -> str:
        """Return what was written before the transition, in whole tokens."""
        return self._text[: self._ends[transition.num_tokens - 1]] if transition.num_tokens else ""

    def feed(self, delta: Delta) -> None:
        """Add what the branch has written. Without log-probabilities the ends of the tokens are not known, and no transition is found."""
        said, self.said = self.said, ""  # what nothing else holds, CPython appends to in place: linear time for long thoughts
        said += delta.text
        self.said = said
        for entry in delta.logprobs:
            self._add(entry)
        self._grown.set()

    def end(self) -> None:
        """Tell that the branch has ended."""
        self.has_ended = True
        self._grown.set()

    def _add(self, entry: TokenLogprob) -> None:
        before = len(self._text)
        text, self._text = self._text, ""  # in place, as above
        text += entry.token
        self._text = text
        self.token_ids.append(entry.token_id)
        self._ends.append(len(self._text))
        if self._begin is None:
            self._open()
        if self._begin is None or self._num_thinking is not None:
            return
        if self._text.find(self._thinking.end, max(self._begin, before - len(self._thinking.end))) >= 0:
            self._num_thinking = len(self.token_ids) - 1
            return
        begin = self._line if before - self._line <= _FARTHEST else before  # so that long lines take linear time
        for match in self._pattern.finditer(self._text, max(begin, self._last)):
            since_last = self._text[max(self._last, self._begin) : match.end()]
            self._in_call = is_in_tool_call(since_last, begins_in_call=self._in_call)  # marks have no line breaks
            if since_last.strip() and not self._in_call:
                self._transitions.append(Transition(self._num_within(match.end()), len(self.token_ids)))
            self._last = match.end()
        self._line = max(self._line, self._text.rfind("\n", before))

    def _open(self) -> None:
        """Look for the start of the thinking, which this model writes itself. A text that begins with something else does not think."""
        begun, start = self._text.lstrip(), self._thinking.start
        if begun.startswith(start):
            self._begin = self._text.index(start) + len(start)
        elif not start.startswith(begun):
            self._num_thinking = 0

    def _num_within(self, length: int) -> int:
        """Return how many whole tokens are within the first characters."""
        num = bisect_right(self._ends, length)
        while num > 1 and self._ends[num - 1] == self._ends[num - 2]:  # the first bytes of a character that comes later
            num -= 1
        return num

    async def reaches(self, num_tokens: int) -> bool:
        """Wait until so many tokens were thought. Returns False if the thinking ends before."""
        while self.num_thought < num_tokens and not self.is_over:
            await self._wait()
        return self.num_thought >= num_tokens

    async def next_transition(self, tried: int, due: int) -> Transition | None:
        """Wait until `due` tokens were thought, and return the latest transition until then, else the first one that comes.

        Returns None if the thinking ends before, or if there is none behind the first `tried` tokens.
        """
        if not await self.reaches(due):
            return None
        while True:
            new = self._transitions = [one for one in self._transitions if one.num_tokens > tried]
            until_then = [one for one in new if one.seen <= due]
            if until_then or new:
                return until_then[-1] if until_then else new[0]
            if self.is_over:
                return None
            await self._wait()

    async def _wait(self) -> None:
        self._grown.clear()
        await self._grown.wait()


def _pattern(transitions: Sequence[str]) -> re.Pattern[str]:
    """Return the pattern of transitions: it matches up to the place where the next thought begins."""
    words = "|".join(re.escape(one) for one in transitions if one.strip())
    parts = [rf"\n[ \t]{{0,8}}(?=(?:{words})(?!\w).)"] if words else []
    if "\n\n" in transitions:
        parts.append(r"\n[ \t]{0,8}\n")
    if "\n" in transitions:
        parts.append(r"\n")
    return re.compile("|".join(parts), re.DOTALL)
