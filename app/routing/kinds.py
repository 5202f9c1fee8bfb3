"""Detects which kind of final answer a request wants, from its text and its form alone.

A wrong "open" only loses a vote, but a wrong "math" wastes samples. So anything that looks like writing, code or conversation is
open. The patterns take time linear in the text, and only its beginning and its end are read.
"""

import re
from collections.abc import Mapping
from typing import Any

from strategies.core.values import AnswerKind

NUM_CHARS_READ = 2000
"""The number of characters that are read from either end of a long prompt: the question and the instructions stand there."""

_NOT_A_QUESTION = re.compile(
    r"```|\b(?:write|rewrite|draft|compose|translate|summari[sz]e|paraphrase|proofread|brainstorm|implement|refactor|debug)\b"
    r"|\b(?:essay|poem|haiku|story|tweet|email|letter|blog|paragraphs?|code|script|program|regex|sql|html|css)\b"
    r"|\b(?:python|javascript|typescript|java|rust|golang|bash)\b|\bc\+\+|\bdef \w|\bimport \w|\btell me (?:about|a)\b"
    r"|\bexplain\b|\bdescribe\b"
    r"|\bdiscuss\b|\bwhy\b|\bopinion\b|\brecommend\b|\bideas?\b|\btips\b|\blist (?:of )?\d+\b|\bname \d+\b|\bgive me \d+\b",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?:^|\n|\s)[(]?([A-E])[).:](?=\s)")
_MATH_WORDS = re.compile(
    r"\b(?:solve|compute|calculate|evaluate|simplify|factor|differentiate|integrate|derivative|integral|remainder|gcd|lcm)\b"
    r"|\bhow (?:many|much)\b|\bwhat(?:'s| is) the (?:sum|product|difference|quotient|value|area|perimeter|volume|average|mean"
    r"|total|probability|square root|cube root|percentage|ratio|remainder|greatest|least|next number)\b"
    r"|\b(?:sum|product|average|area|perimeter|volume|probability) of\b|\bfind (?:the value of )?[a-z]\b"
    r"|\bhow (?:old|far|long|fast|tall)\b",
    re.IGNORECASE,
)
_ARITHMETIC = re.compile(
    r"\d\s*(?:[-+*/^\u00d7\u00f7\u00b7=%]|\\times|\\cdot|\\div|plus|minus|times|divided by|squared|cubed|mod)\s*[(]?-?[\d\w\\]"
)
_EQUATION = re.compile(r"\b\d*[a-z]\b[^.\n]{0,40}=|\\(?:frac|sqrt|int|sum|boxed)\b")
_DATE = re.compile(r"\b\d{4}-\d{1,2}-\d{1,2}\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b|\b\d{3}[-.]\d{3,4}[-.]?\d*\b")
_ASKS = re.compile(r"\?|\b(?:what|how|find|solve|compute|calculate|evaluate|simplify)\b|=\s*$", re.IGNORECASE)


def detect_kind(question: str, *, response_format: Mapping[str, Any] | None = None, has_tools: bool = False) -> AnswerKind:
    """Return the kind of answer that `question` wants, `OPEN` by default. It never raises, and takes less than 1 ms."""
    if has_tools:
        return AnswerKind.TOOLS
    if response_format is not None and response_format.get("type") in ("json_object", "json_schema"):
        return AnswerKind.JSON
    text = _ends(question)
    if _has_options(text):
        return AnswerKind.CHOICE
    if _is_math(text):
        return AnswerKind.MATH
    return AnswerKind.OPEN


def _ends(text: str) -> str:
    if len(text) <= 2 * NUM_CHARS_READ:
        return text
    return text[:NUM_CHARS_READ] + "\n" + text[-NUM_CHARS_READ:]


def _has_options(text: str) -> bool:
    """Whether the labels A, B and C stand in the text in that order, or A and B in a text with a question mark."""
    labels = "".join(match.group(1) for match in _OPTION.finditer(text))
    return "ABC" in labels or ("AB" in labels and "?" in text)


def _is_math(text: str) -> bool:
    if _NOT_A_QUESTION.search(text):
        return False
    text = _DATE.sub(" ", text)  # "2024-05-01" and "1/2/2024" look like arithmetic
    has_digits = any(character.isdigit() for character in text)
    if _ARITHMETIC.search(text) or (has_digits and _EQUATION.search(text)):
        return bool(_ASKS.search(text)) or len(text) < 80
    return has_digits and bool(_MATH_WORDS.search(text)) and bool(_ASKS.search(text))
