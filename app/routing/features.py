"""What is seen of a question: its prompt before the first token, its candidates after each wave. Pure, and below a millisecond."""

import math
import re
import zlib
from collections import Counter
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from strategies.core.stopping_rule import Evidence

NUM_BUCKETS = 1024
"""Of hashed words and pairs of words."""

NUM_CHARS_SEEN = 750
"""Characters looked at from either end of a long prompt."""

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")

Features = NDArray[np.float64]

NUMBERS = ("words", "lines", "numbers", "most digits", "digits", "operators", "long words", "capitals")
"""What is counted besides, each as log(1 + count)."""


def of_prompt(text: str) -> Features:
    """(NUM_BUCKETS + len(NUMBERS),) features of the last message: hashed words and pairs, in which a number is its length, and counts."""
    if len(text) > 2 * NUM_CHARS_SEEN:
        text = text[:NUM_CHARS_SEEN] + "\n" + text[-NUM_CHARS_SEEN:]
    words = _WORD.findall(text)
    shapes = [f"#{len(word)}" if word[0].isdigit() else word.lower() for word in words]
    counts = Counter(shapes)
    counts.update(f"{first} {second}" for first, second in pairwise(shapes))
    features = np.zeros(NUM_BUCKETS + len(NUMBERS))
    for shape, count in counts.items():
        features[zlib.crc32(shape.encode(errors="surrogatepass")) % NUM_BUCKETS] += math.log1p(count)
    numbers = [word for word in words if word[0].isdigit()]
    seen = (
        len(words),
        text.count("\n"),
        len(numbers),
        max(map(len, numbers), default=0),
        sum(map(len, numbers)),
        sum(word in "+-*/=<>^%" for word in words),
        sum(len(word) > 7 for word in words),
        sum(word[0].isupper() for word in words),
    )
    features[NUM_BUCKETS:] = [math.log1p(count) for count in seen]
    return features


_SEEN = (
    "leader", "runner up", "answers", "set aside", "unread", "first leads", "logprob", "lowest", "length", "attempts",
    "difficulty", "leader squared", "leader and difficulty", "leader and logprob", "logprob and difficulty",
    "lowest and difficulty", "difficulty squared",
)  # fmt: skip

EVIDENCE = ("first is true", *(f"{name}, first is {kind}" for kind in ("true", "false") for name in _SEEN))


def of_evidence(evidence: Evidence, difficulty: float) -> Features:
    """(len(EVIDENCE),) features of a wave: shares of the answers, log-probabilities, and the logit of what was thought before.

    Where the first answer holds they mean something else than where a line of it is false, so each has a place of its own.
    """
    n = evidence.answers
    leader, runner_up, *_ = [*evidence.votes, 0, 0]
    share = leader / n
    logprob, lowest = max(evidence.logprob, -2.0), max(evidence.lowest, -3.0)
    hard = logit(difficulty)
    seen = [
        share,
        runner_up / n,
        len(evidence.votes) / n,
        evidence.num_set_aside / n,
        evidence.num_unread / n,
        float(evidence.first_leads),
        logprob,
        lowest,
        math.log1p(evidence.length),
        math.log(max(evidence.attempts / n, 1.0)),
        hard,
        share * share,
        share * hard,
        share * logprob,
        logprob * hard,
        lowest * hard,
        hard * hard,
    ]
    nothing = [0.0] * len(seen)
    parts = (seen, nothing) if evidence.first_is_true else (nothing, seen)
    return np.array([float(evidence.first_is_true), *parts[0], *parts[1]])


def logit(probability: float) -> float:
    """Its log-odds, of one between 0.001 and 0.999."""
    clipped = min(max(probability, 1e-3), 1 - 1e-3)
    return math.log(clipped / (1 - clipped))
