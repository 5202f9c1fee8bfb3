"""The features that difficulty is estimated from: of the prompt before the first token, and of the samples after each wave.

All functions are pure and take less than a millisecond.
"""

import math
import re
import zlib
from collections import Counter
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from strategies.core.stopping_rule import Evidence

NUM_BUCKETS = 1024
"""The number of buckets that words and pairs of words are hashed into."""

NUM_CHARS_READ = 750
"""The number of characters that are read from either end of a long prompt."""

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")

LEAST_LOGPROB, LEAST_LOWEST = -2.0, -3.0
"""Log-probabilities are cut to these, so that a single bad token does not dominate a linear model."""

Features = NDArray[np.float64]

PROMPT_COUNTS = ("words", "lines", "numbers", "most digits", "digits", "operators", "long words", "capitals")
"""What is counted in a prompt besides words and pairs. Each count enters as log(1 + count)."""

NUM_PROMPT_FEATURES = NUM_BUCKETS + len(PROMPT_COUNTS)


def prompt_features(text: str) -> Features:
    """Return the (NUM_PROMPT_FEATURES,) features of a prompt: hashed words and pairs of words, and `PROMPT_COUNTS`.

    A number counts as its length alone, so that what was learned of one sum holds for another one.

    Args:
        text: the last message of the user.

    """
    if len(text) > 2 * NUM_CHARS_READ:
        text = text[:NUM_CHARS_READ] + "\n" + text[-NUM_CHARS_READ:]
    words = _WORD.findall(text)
    shapes = [f"#{len(word)}" if word[0].isdigit() else word.lower() for word in words]
    shape_counts = Counter(shapes)
    shape_counts.update(f"{first} {second}" for first, second in pairwise(shapes))
    features = np.zeros(NUM_PROMPT_FEATURES)
    for shape, count in shape_counts.items():
        # CRC32 gives the same bucket in every process; Python's `hash` does not
        features[zlib.crc32(shape.encode(errors="surrogatepass")) % NUM_BUCKETS] += math.log1p(count)
    numbers = [word for word in words if word[0].isdigit()]
    counts = (
        len(words),
        text.count("\n"),
        len(numbers),
        max(map(len, numbers), default=0),
        sum(map(len, numbers)),
        sum(word in "+-*/=<>^%" for word in words),
        sum(len(word) > 7 for word in words),
        sum(word[0].isupper() for word in words),
    )
    features[NUM_BUCKETS:] = [math.log1p(count) for count in counts]
    return features


_WAVE_FEATURES = (
    "leader", "runner up", "answers", "filtered", "unread", "first leads", "logprob", "lowest", "length", "attempts",
    "difficulty", "leader squared", "leader and difficulty", "leader and logprob", "logprob and difficulty",
    "lowest and difficulty", "difficulty squared",
)  # fmt: skip

EVIDENCE_FEATURES = (
    "first is true",
    *(f"{name}, first is {kind}" for kind in ("true", "false") for name in _WAVE_FEATURES),
)
"""The names of the features of a wave."""


def evidence_features(evidence: Evidence, difficulty: float) -> Features:
    """Return the (len(EVIDENCE_FEATURES),) features that are observed after a wave of samples.

    They are shares of the answers, log-probabilities, and the logit of the difficulty of the prompt. A number has another meaning
    if the first answer has a false line. So each feature has two places: one for a first answer that is true, one for a false one.

    Args:
        evidence: the votes and log-probabilities after the wave.
        difficulty: estimated from the prompt, 0 to 1.

    """
    n = evidence.answers
    leader, runner_up, *_ = [*evidence.votes, 0, 0]
    share = leader / n
    logprob, lowest = max(evidence.logprob, LEAST_LOGPROB), max(evidence.lowest, LEAST_LOWEST)
    prompt_logit = logit(difficulty)
    values = [
        share,
        runner_up / n,
        len(evidence.votes) / n,
        evidence.num_filtered / n,
        evidence.num_unread / n,
        float(evidence.first_leads),
        logprob,
        lowest,
        math.log1p(evidence.length),
        math.log(max(evidence.attempts / n, 1.0)),
        prompt_logit,
        share * share,
        share * prompt_logit,
        share * logprob,
        logprob * prompt_logit,
        lowest * prompt_logit,
        prompt_logit * prompt_logit,
    ]
    zeros = [0.0] * len(values)
    if_true, if_false = (values, zeros) if evidence.first_is_true else (zeros, values)
    return np.array([float(evidence.first_is_true), *if_true, *if_false])


def logit(probability: float) -> float:
    """Return the log-odds of a probability, which is first clipped to 0.001 to 0.999."""
    clipped = min(max(probability, 1e-3), 1 - 1e-3)
    return math.log(clipped / (1 - clipped))
