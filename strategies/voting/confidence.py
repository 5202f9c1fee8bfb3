"""Confidence in an answer, from the log-probabilities of its tokens (DeepConf, Fu et al. 2025, arXiv 2508.15260).

The confidence of a token is C = -(1/k) sum_j log P_j over the k most probable tokens in its place: the surer the model, the less
probable are all tokens but one, and the higher is C. A group is a window of tokens, and its confidence their mean.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, floor, log
from typing import Literal

from strategies.core.values import Candidate, TokenLogprob, Watch

LEAST_LOGPROB = -100.0
"""Stands for a lower one: a grammar gives the tokens that it excludes minus infinity."""

Measure = Literal["lowest_group", "bottom_groups", "tail"]
"""What the confidence of an answer is: of its lowest group, the mean of its lowest tenth of groups, or that of its last group."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies, from 0 to 1, interpolated linearly between two of them."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[floor(place)], ordered[ceil(place)]
    return low + (high - low) * (place - floor(place))


class _SlidingMean:
    """The mean of the last values."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: deque[float] = deque()
        self._total = 0.0

    def add(self, value: float) -> float | None:
        """Add a value and return the mean of the last ones; None while the window is not full."""
        self._values.append(value)
        self._total += value
        if len(self._values) > self._size:
            self._total -= self._values.popleft()
        return self._total / self._size if len(self._values) == self._size else None


@dataclass(frozen=True, slots=True)
class GroupConfidence:
    """Measures confidence over groups.

    Attributes:
        num_top: k, the most probable tokens that a token's confidence is the mean of; fewer where fewer are known.
        group_tokens: of each group. A shorter answer is one group.

    """

    num_top: int
    group_tokens: int

    def of_token(self, entry: TokenLogprob) -> float:
        """Return the confidence in a token of which the most probable alternatives are known."""
        top = entry.top[: self.num_top]
        return -sum(max(logprob, LEAST_LOGPROB) for _, logprob in top) / len(top)

    def groups(self, logprobs: Sequence[TokenLogprob]) -> list[float]:
        """Return the confidence of each group, from the first to the last. Tokens that the server wrote belong to none."""
        values = [self.of_token(entry) for entry in logprobs if entry.top]
        window = _SlidingMean(self.group_tokens)
        means = [mean for value in values if (mean := window.add(value)) is not None]
        return means or ([sum(values) / len(values)] if values else [])

    def of(self, candidate: Candidate, measure: Measure) -> float:
        """Return the confidence of a candidate, at least 0; 0 for one without tokens."""
        groups = self.groups(candidate.logprobs)
        if not groups:
            return 0.0
        if measure == "tail":
            return groups[-1]
        lowest = sorted(groups)[: 1 if measure == "lowest_group" else max(len(groups) // 10, 1)]
        return sum(lowest) / len(lowest)

    def below(self, threshold: float) -> Callable[[], Watch]:
        """Return what makes a watch for each branch, which holds once the confidence of a whole group is below the threshold."""

        def watch() -> Watch:
            window = _SlidingMean(self.group_tokens)

            def is_below(tokens: Sequence[TokenLogprob]) -> bool:
                means = [window.add(self.of_token(entry)) for entry in tokens if entry.top]
                return any(mean is not None and mean < threshold for mean in means)

            return is_below

        return watch


def margin(entry: TokenLogprob) -> float:
    """Return how much more probable the most probable token is than the next one: the difference of their log-probabilities.

    It is 0 or more, and 0 where fewer than two alternatives are known.
    """
    if len(entry.top) < 2:
        return 0.0
    first, second, *_ = sorted((max(logprob, LEAST_LOGPROB) for _, logprob in entry.top), reverse=True)
    return first - second


def entropy(entry: TokenLogprob) -> float:
    """Return the entropy of a token's alternatives in nats, 0 or more. All tokens that are not among them count as one."""
    known = [max(logprob, LEAST_LOGPROB) for _, logprob in entry.top]
    rest = max(1.0 - sum(map(exp, known)), 0.0)
    return -sum(exp(one) * one for one in known) - (rest * log(rest) if rest > 0 else 0.0)
