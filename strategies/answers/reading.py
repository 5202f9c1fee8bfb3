"""Reads the final answer of a candidate's text, in a canonical form. Reading takes time linear in the text and never fails."""

import json
import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from strategies.answers.equations import normalised, statements
from strategies.core.values import AnswerKind

NUM_CHARS_READ = 20_000
"""Final answers stand at the end of a text, so only so many of its last characters are read."""

NUM_CHARS_STATED = 400
MAX_DIGITS = 300

_NUMBER = re.compile(
    r"(?:(?<![\w.)])[-+])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?:\.\d+)?)?|(?:(?<![\w.)])[-+])?\.\d+"
)
_FRACTION = re.compile(r"([-+]?)\\[dt]?frac\s*\{\s*([-+]?\d+)\s*\}\s*\{\s*([-+]?\d+)\s*\}")
_STATED = re.compile(
    r"(?:answer|result|total|solution)\s{0,3}(?:is|are|=|:){1,3}\s{0,3}\*{0,3}\s{0,3}([^\n]{1,200})", re.IGNORECASE
)
_MARK = re.compile(r"#{4,}+(?!\s{0,8}step\b)", re.IGNORECASE)
_GLUED = re.compile(r"[^\s.,;:?!)\]}\"'*|\\%]")
"""What follows a number that is only part of an expression: 2x, 10^2."""
_LATEX_NOISE = re.compile(r"\\(?:left|right|displaystyle|,|!|;|:|quad|qquad)(?![a-zA-Z])|\\text\s*\{[^{}]*\}|[\s$]")
_CHOICE_STATED = re.compile(
    r"(?i:(?:answer|option|choice)\b\s{0,3}(?:is|:|=)?\s{0,3}:?\s{0,3}\*{0,3})"
    r"(?:\(([A-Za-z])\)|([B-HJ-Z])\b(?!')|([AI])\b(?!'|\s+(?!(?:as|and|because|but|for|is|since|which|with)\b)[a-z])"
    r"|([a-z])(?:[):]|\.\s|[.*]{0,4}\s{0,8}(?:\n|$)))"
)
"""A lower-case letter, and the words A and I, name an option only if no sentence continues behind them."""

_CHOICE_MARKED = re.compile(r"\(([A-Z])\)|(?:^|\n)[ \t]{0,8}\*{0,3}([A-Z])[).:*]")
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_FENCE = re.compile(r"```(?:json)?(.*?)```", re.DOTALL)


def read_answer(kind: AnswerKind, text: str) -> str | None:
    """Return the final answer of `text` in canonical form; None if none can be read."""
    return _READERS[kind](text[-NUM_CHARS_READ:]) if kind in _READERS else None


def number_of(text: str) -> Fraction | None:
    """Return the exact value of a plain number ("1,234.50", "3/4", "-2"); None for anything else."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or len(text) > MAX_DIGITS:
        return None
    above, _, below = match.group().replace(",", "").replace(" ", "").partition("/")
    divisor = Fraction(below) if below else Fraction(1)
    return Fraction(above) / divisor if divisor else None


def _read_math(text: str) -> str | None:
    if (boxed := last_boxed(text)) is not None:
        return _canonical_math(boxed)
    *before, marked = _MARK.split(text)
    stated = [marked] if before else _STATED.findall(text)
    return (stated and _stated(stated[-1])) or _last_number(text)


def _stated(text: str) -> str | None:
    """Return the result of the equation that the first line begins with, else the line's first number."""
    line = next((line for line in text.splitlines() if line.strip()), "")[:NUM_CHARS_STATED]
    first = next(statements(normalised(line)), None)
    if first is None or not first.sides or _GLUED.match(first.after):
        return _first_number(line.rpartition("=")[2]) or _first_number(text)
    begins = not any(character.isdigit() for character in first.before)
    is_result = (
        first.is_equation or len(first.sides[0].numbers) == 1
    )  # a range like 5-10 and a date like 2024-05-01 are not differences
    return str(first.sides[-1].value) if begins and is_result else _first_number(text)


def last_boxed(text: str) -> str | None:
    """Return the content of the last LaTeX box; None if there is none, or it is empty or not closed."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + 7 : position].strip() or None
    return None


def _canonical_math(text: str) -> str | None:
    """Return a number in lowest terms, without its unit and a name before it; else the expression without LaTeX's spacing."""
    text = _clean(text)
    for candidate in (text, text.rpartition("=")[2]):
        if len(candidate) > MAX_DIGITS:
            continue
        bare = re.sub(r"^[$€£¥]|\s*(?:%|\\%|°|[A-Za-z]+)$", "", candidate.strip().strip("$€£.")).strip()
        if (number := number_of(bare)) is not None:
            return str(number)
    return text or None


def _clean(text: str) -> str:
    text = _FRACTION.sub(lambda match: f"{match[1]}{match[2]}/{match[3]}", text)
    text = _LATEX_NOISE.sub(lambda match: " " if match[0].isspace() else "", text)
    return text.replace("\\%", "%").replace("\N{MINUS SIGN}", "-").strip()


def _first_number(text: str) -> str | None:
    match = _NUMBER.search(_clean(text))
    return _as_number(match.group()) if match else None


def _last_number(text: str) -> str | None:
    numbers = _NUMBER.findall(_clean(text))
    return _as_number(numbers[-1]) if numbers else None


def _as_number(text: str) -> str | None:
    number = number_of(text)
    return None if number is None else str(number)


def _read_choice(text: str) -> str | None:
    if (boxed := last_boxed(text)) is not None and (letter := re.search(r"\b([A-Za-z])\b", boxed)):
        return letter[1].upper()
    if stated := _CHOICE_STATED.findall(text):
        return "".join(stated[-1]).upper()
    if len(lone := text.strip(" \t\n()[].:*")) == 1 and lone.isalpha():
        return lone.upper()
    marked = _CHOICE_MARKED.findall(text)
    return next((letter for letter in marked[-1] if letter), None) if marked else None


def _read_json(text: str) -> str | None:
    try:
        return json.dumps(_plain(parse_json(text)), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def parse_json(text: str) -> Any:
    """Return the value of a text that is JSON, or whose last code fence is; raises `ValueError` if neither is."""
    for piece in (text, *_FENCE.findall(text)[-1:]):
        try:
            return json.loads(piece, parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
    raise ValueError("no JSON")


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _plain(value: Any) -> Any:
    """Return the value with whole floats as integers, since 1.0 and 1 are the same number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _read_text(text: str) -> str | None:
    """Return what follows the last `####`, else "the answer is", else the whole text, without case, punctuation and articles.

    So the metric of SQuAD compares answers (Rajpurkar et al. 2016, arXiv 1606.05250). Signs, and punctuation between digits, are kept: -3,
    3.5 and 12:30 are not 3, 35 and 1230.
    """
    _, is_marked, after = text.rpartition("####")
    if is_marked and after.strip():
        text = after.strip().partition("\n")[0]
    elif stated := _STATED.findall(text):
        text = stated[-1]
    text = _PUNCTUATION.sub(_punctuation, unicodedata.normalize("NFKC", text).casefold())
    return " ".join(word for word in text.split() if word not in {"a", "an", "the"}) or None


def _punctuation(match: re.Match[str]) -> str:
    """Return what a character that belongs to no word is replaced with."""
    character, position, text = match[0], match.start(), match.string
    before, after = text[position - 1 : position], text[position + 1 : position + 2]
    if after.isdigit() and ((character in "-\u2212" and not before.isalpha()) or (character in ".:/" and before.isdigit())):
        return "-" if character == "\u2212" else character
    return " " if character == "," else "" if unicodedata.category(character).startswith("P") else character


_READERS: dict[AnswerKind, Callable[[str], str | None]] = {
    AnswerKind.MATH: _read_math,
    AnswerKind.CHOICE: _read_choice,
    AnswerKind.JSON: _read_json,
    AnswerKind.TOOLS: _read_json,
    AnswerKind.TEXT: _read_text,
}
