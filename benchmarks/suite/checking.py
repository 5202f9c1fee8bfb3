"""Checks answers: the final answer is found leniently, and then compared exactly with the right one. Nothing is evaluated."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
RELATIONS = (
    "mother", "father", "sister", "brother", "daughter", "son", "wife", "husband", "grandmother", "grandfather", "aunt", "uncle",
)  # fmt: skip
MAX_CHARS = 20_000
MAX_DIGITS = 60

_MARK = re.compile(r"#{4,}+(?!\s*step\b)", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]*)\}")
_LEAD = re.compile(r"^(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\b[\s:]*", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_LISTED = re.compile(r"-?\d+(?:\.\d+)?")
_CLOCK = re.compile(r"\b(\d{1,3}):(\d{2})(?::(\d{2}))?\b")
_SIGNS = str.maketrans({"−": "-", "–": "-", "`": None, "’": "'", "“": '"', "”": '"'})  # noqa: RUF001 - as models write
_EDGES = " \t.,;:!?'\"()[]$*"

Found = object
"""A final answer in a form that is equal exactly when the answers are."""


@dataclass(frozen=True)
class Passage:
    """The text that holds the answer: the marked answer if it `is_marked`, else the whole text."""

    text: str
    is_marked: bool = True

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line.strip() for line in self.text.splitlines() if line.strip(_EDGES + "#-")]

    @property
    def line(self) -> str:
        """The first line after a mark, else the last line, without an introduction of the answer."""
        lines = self.lines or [""]
        return lines[0 if self.is_marked else -1].rpartition(": ")[2]


def final(text: str) -> Passage:
    """Return what follows the last mark, else the content of the last box, else the whole text."""
    text = text[-MAX_CHARS:].translate(_SIGNS).replace("**", "")
    *before, after = _MARK.split(text)
    marked = _LEAD.sub("", after.strip())
    if before and marked:
        return Passage(marked)
    if boxes := _BOXED.findall(text):
        return Passage(boxes[-1])
    return Passage(text, is_marked=False)


@dataclass(frozen=True)
class Kind:
    """A kind of answer.

    Attributes:
        served_as: the kind of the server, which compares answers in a vote.
        read: returns the answer in a passage, None where there is none.

    """

    served_as: str
    read: Callable[[Passage], Found | None]

    def is_right(self, text: str, gold: str) -> bool:
        """Whether the final answer of `text` is `gold`."""
        found = self.read(final(text))
        return found is not None and found == self.read(Passage(gold))


def _number(passage: Passage) -> Fraction | None:
    if passage.is_marked:
        line = next((line for line in passage.lines if _NUMBER.search(line)), "").rpartition("=")[2]
        found = _NUMBER.findall(line)[:1]
    else:
        found = _NUMBER.findall(passage.text)[-1:]
    return Fraction(found[0].replace(",", "")) if found and len(found[0]) <= MAX_DIGITS else None


def _numbers(passage: Passage) -> list[Fraction] | None:
    found = _LISTED.findall(passage.line)
    return [Fraction(number) for number in found if len(number) <= MAX_DIGITS] or None


def _words(passage: Passage) -> list[str] | None:
    words = [word.strip(_EDGES).casefold() for word in passage.line.split(",")]
    return words if all(words) else None


def _word(passage: Passage) -> str | None:
    words = [word.strip(_EDGES).casefold() for word in passage.line.split()]
    return next((word for word in reversed(words) if word), None)


def _clock(passage: Passage) -> tuple[int, ...] | None:
    found = _CLOCK.findall(passage.text)
    return tuple(int(part or 0) for part in found[-1]) if found else None


def _option(options: tuple[str, ...]) -> Callable[[Passage], str | None]:
    pattern = re.compile(rf"\b(?:{'|'.join(options)})\b(?!-)", re.IGNORECASE)

    def read(passage: Passage) -> str | None:
        found = pattern.findall(passage.text)
        return str(found[-1]).casefold() if found else None

    return read


NUMBER = Kind("math", _number)
NUMBERS = Kind("text", _numbers)
WORDS = Kind("text", _words)
WORD = Kind("text", _word)
CLOCK = Kind("text", _clock)
WEEKDAY = Kind("text", _option(WEEKDAYS))
RELATION = Kind("text", _option(RELATIONS))
