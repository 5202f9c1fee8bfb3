"""The features that the general estimator reads: the work that a prompt asks for, its words, the first tokens, and the answers.

A family of questions that nobody has seen has new words, and still more numbers, longer numbers and longer lists ask for more work.
Of the answers it reads only what means the same for every model. All functions are pure and take less than a millisecond.
"""

import math
import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from app.routing.features import LEAST_LOGPROB, LEAST_LOWEST, NUM_CHARS_READ, NUM_PROMPT_FEATURES, Features, prompt_features
from strategies.checking.chains import NUM_FIRST_TOKENS
from strategies.core.stopping_rule import Evidence
from strategies.core.values import AnswerKind

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_]+")
_OPERATOR = re.compile(r"[-+*/=<>^%\u00d7\u00f7]")
_CLAUSE = re.compile(r"[.,;:?!\n]")

LEAST_TOKEN = -6.0
"""The log-probability of a single token is cut to this."""

COUNTS = (
    "words", "clauses", "numbers", "digits", "most digits", "second most digits", "decimals", "operators", "products", "brackets",
    "long words", "longest word", "capitals", "commas", "quoted", "different words", "lone letters",
)  # fmt: skip
"""What is counted in a prompt. Each count enters as log(1 + count)."""

KINDS = (AnswerKind.MATH, AnswerKind.CHOICE, AnswerKind.TEXT)
"""The kinds of answers that have a feature of their own."""

ASKS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bsteps?\b|\bstep by step\b",
        r"\bonly\b|\bjust\b",
        r"\bhow many\b|\bcount\b",
        r"\beach\b|\bevery\b|\bper\b|%",
    )
)
"""Words of instructions that change how a model answers, and words of stories with several steps."""

NUM_WORK_FEATURES = len(COUNTS) + len(KINDS) + len(ASKS) + 1
"""The features of the work that is asked for, with the size of the model. Hashed words follow them."""

NUM_GENERAL_FEATURES = NUM_WORK_FEATURES + NUM_PROMPT_FEATURES


class PromptReading:
    """The features of one prompt. Each part is computed when it is first asked for, since several models and estimators read the same.

    Args:
        text: the last message of the user.
        kind: of the answer.

    """

    def __init__(self, text: str, kind: AnswerKind) -> None:
        self._text = text
        self._kind = kind

    @cached_property
    def words(self) -> Features:
        """The (NUM_PROMPT_FEATURES,) features that a calibrated policy reads."""
        return prompt_features(self._text)

    @cached_property
    def _work(self) -> Features:
        return _work_features(self._text, self._kind)

    def work(self, token_flops: float) -> Features:
        """Return the (NUM_WORK_FEATURES,) features of the work that is asked of a model which takes so many FLOPs for a token."""
        size = math.log10(max(token_flops, 1.0)) - 9
        return np.append(self._work, size)

    def general(self, token_flops: float) -> Features:
        """Return the (NUM_GENERAL_FEATURES,) features of the prompt for such a model."""
        return np.concatenate([self.work(token_flops), self.words])


def _work_features(text: str, kind: AnswerKind) -> Features:
    """Return the (NUM_WORK_FEATURES - 1,) features of the work, without the size of the model."""
    if len(text) > 2 * NUM_CHARS_READ:
        text = text[:NUM_CHARS_READ] + "\n" + text[-NUM_CHARS_READ:]
    words = _WORD.findall(text)
    numbers = _NUMBER.findall(text)
    digits = sorted((sum(character.isdigit() for character in number) for number in numbers), reverse=True)
    most, second, *_ = [*digits, 0, 0]
    counts = (
        len(words),
        len(_CLAUSE.findall(text)),
        len(numbers),
        sum(digits),
        most,
        second,
        sum("." in number for number in numbers),
        len(_OPERATOR.findall(text)),
        text.count("*") + text.count("\u00d7"),
        text.count("("),
        sum(len(word) > 7 for word in words),
        max(map(len, words), default=0),
        sum(word[0].isupper() for word in words),
        text.count(","),
        text.count('"'),
        len({word.lower() for word in words}),
        sum(len(word) == 1 for word in words),
    )
    return np.array(
        [
            *(math.log1p(count) for count in counts),
            *(float(kind is one) for one in KINDS),
            *(float(ask.search(text) is not None) for ask in ASKS),
        ]
    )


FIRST_TOKEN_FEATURES = ("mean", "least", "least four", "unsure", "early", "lowest window", "number", "whole")
"""The names of the features of the first tokens of an answer."""

UNSURE = -0.5
"""A token is one that the model was not sure of where its log-probability is lower."""

SHORT_WINDOW = 8
"""Tokens of a window of the first tokens, and of their beginning."""


def first_token_features(logprobs: Sequence[float]) -> Features:
    """Return the (len(FIRST_TOKEN_FEATURES),) features of the first tokens of an answer.

    Args:
        logprobs: up to `NUM_FIRST_TOKENS` log-probabilities, fewer where the answer ended before; at least one.

    """
    values = np.maximum(np.array(logprobs), LEAST_TOKEN)
    size = min(SHORT_WINDOW, len(values))
    return np.array(
        [
            values.mean(),
            values.min(),
            np.sort(values)[:4].mean(),
            (values < UNSURE).mean(),
            values[:SHORT_WINDOW].mean(),
            np.convolve(values, np.ones(size) / size, "valid").min(),
            math.log1p(len(values)),
            float(len(values) < NUM_FIRST_TOKENS),
        ]
    )


ANSWER_FEATURES = (
    "leader", "leader squared", "runner up", "answers", "first leads", "first is true", "filtered", "unread", "logprob", "lowest",
    "least", "length", "attempts", "answer length", "distinct lines", "marked", "complete",
)  # fmt: skip
"""The names of the features of a wave."""

MAX_ANSWER_LENGTH = 40


def answer_features(evidence: Evidence, difficulty: float) -> Features:  # noqa: ARG001 - the signature of all features of a wave
    """Return the (len(ANSWER_FEATURES),) features that are observed after a wave of samples.

    The difficulty of the prompt is not among them: what other models found difficult misleads for a model that was trained on it.
    """
    n = evidence.answers
    leader, runner_up, *_ = [*evidence.votes, 0, 0]
    share = leader / n
    return np.array(
        [
            share,
            share * share,
            runner_up / n,
            len(evidence.votes) / n,
            float(evidence.first_leads),
            float(evidence.first_is_true),
            evidence.num_filtered / n,
            evidence.num_unread / n,
            max(evidence.logprob, LEAST_LOGPROB),
            max(evidence.lowest, LEAST_LOWEST),
            max(evidence.least, LEAST_TOKEN),
            math.log1p(evidence.length),
            math.log(max(evidence.attempts / n, 1.0)),
            min(evidence.answer_length, MAX_ANSWER_LENGTH) / 10,
            evidence.distinct_lines,
            float(evidence.is_marked),
            float(evidence.is_complete),
        ]
    )
