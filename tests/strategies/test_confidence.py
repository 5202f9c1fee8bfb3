"""Confidence over groups of tokens: the arithmetic of windows, against a naive computation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.core.values import Candidate, TokenLogprob
from strategies.voting.confidence import GroupConfidence, entropy, margin, percentile

CONFIDENCES = st.lists(st.floats(0, 100), max_size=60)
WINDOWS = st.integers(1, 12)


def tokens(confidences: list[float]) -> tuple[TokenLogprob, ...]:
    """Tokens of which only one is known, so that its log-probability is the confidence."""
    return tuple(TokenLogprob("x", 1, 0.0, (("x", -value),)) for value in confidences)


def candidate(confidences: list[float]) -> Candidate:
    return Candidate(0, "x", (1,) * len(confidences), "stop", logprobs=tokens(confidences))


def naive_groups(values: list[float], window: int) -> list[float]:
    if len(values) < window:
        return [sum(values) / len(values)] if values else []
    return [math.fsum(values[end - window : end]) / window for end in range(window, len(values) + 1)]


@given(values=CONFIDENCES, window=WINDOWS)
def test_groups_are_all_windows_of_full_length(values: list[float], window: int) -> None:
    """Or the whole answer, where it is shorter."""
    assert GroupConfidence(20, window).groups(tokens(values)) == pytest.approx(naive_groups(values, window), abs=1e-9)


@given(values=CONFIDENCES, window=WINDOWS)
def test_the_three_measures(values: list[float], window: int) -> None:
    """The lowest group, the mean of the lowest tenth of them (at least one), and the last group."""
    groups = naive_groups(values, window) or [0.0]
    confidence, one = GroupConfidence(20, window), candidate(values)
    tenth = sorted(groups)[: max(len(groups) // 10, 1)]
    assert confidence.of(one, "lowest_group") == pytest.approx(min(groups), abs=1e-9)
    assert confidence.of(one, "bottom_groups") == pytest.approx(sum(tenth) / len(tenth), abs=1e-9)
    assert confidence.of(one, "tail") == pytest.approx(groups[-1], abs=1e-9)


@given(
    values=st.lists(st.integers(0, 8).map(float), max_size=60),
    window=st.sampled_from([1, 2, 4, 8]),  # sums and means of these are exact
    threshold=st.integers(0, 8),
    sizes=st.lists(st.integers(1, 7), min_size=60, max_size=60),
)
def test_a_watch_holds_at_the_token_that_ends_the_first_low_window(
    values: list[float], window: int, threshold: int, sizes: list[int]
) -> None:
    """However many tokens it is given at once: the pieces of a stream depend on the engine's speed."""
    means = naive_groups(values, window) if len(values) >= window else []
    low = next((window + place for place, mean in enumerate(means) if mean < threshold), None)
    watch, entries, seen, held = GroupConfidence(20, window).below(threshold)(), tokens(values), 0, None
    for size in sizes:
        piece = entries[seen : seen + size]
        if held is None and watch(piece):
            held = (seen, seen + len(piece))
        seen += size
    assert (held is None) == (low is None)
    if held is not None and low is not None:
        assert held[0] < low <= held[1]


@given(values=CONFIDENCES, window=WINDOWS)
def test_each_branch_has_a_watch_of_its_own(values: list[float], window: int) -> None:
    """And it says of the whole answer at once what it says piece by piece, to the last bit."""
    confidence = GroupConfidence(20, window)
    lowest = confidence.of(candidate(values), "lowest_group")
    watches = confidence.below(lowest)
    assert not watches()(tokens(values))
    has_full_group = len(values) >= window
    assert confidence.below(math.nextafter(lowest, math.inf))()(tokens(values)) == has_full_group
    one = watches()
    assert not any(one([entry]) for entry in tokens(values))


@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=20), share=st.floats(0, 1))
def test_percentiles_are_those_of_numpy(values: list[float], share: float) -> None:
    """Linear interpolation, as in the authors' code."""
    assert percentile(values, share) == pytest.approx(float(np.percentile(values, 100 * share)), abs=1e-9)


def test_the_confidence_of_a_token_is_minus_the_mean_of_its_most_probable_tokens() -> None:
    """Of k of them; minus infinity, which a grammar gives, counts as -100; a token that the server wrote does not count."""
    top = (("a", -1.0), ("b", -3.0), ("c", -math.inf))
    entries = (TokenLogprob("a", 1, -1.0, top), TokenLogprob("</think>", 2, 0.0, is_inserted=True))
    assert GroupConfidence(2, 1).groups(entries) == [2.0]
    assert GroupConfidence(3, 1).groups(entries) == [pytest.approx(104 / 3)]
    assert GroupConfidence(20, 1).groups(entries) == [pytest.approx(104 / 3)]


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=8), st.floats(0, 1))
def test_margin_and_entropy_of_a_token(weights: list[float], rest: float) -> None:
    """Both are of the distribution; what is not among the alternatives counts as one token."""
    total = sum(weights) + rest
    shares = sorted((weight / total for weight in weights), reverse=True)
    entry = TokenLogprob("x", 1, math.log(shares[0]), tuple(("x", math.log(share)) for share in shares))
    others = rest / total
    expected = -math.fsum(share * math.log(share) for share in [*shares, others] if share > 0)
    assert margin(entry) == pytest.approx(math.log(shares[0] / shares[1]), abs=1e-9)
    assert entropy(entry) == pytest.approx(expected, abs=1e-6)


def test_margin_and_entropy_are_finite_under_a_grammar() -> None:
    """A grammar gives the tokens that it excludes no probability at all."""
    entry = TokenLogprob("x", 1, 0.0, (("x", 0.0), ("y", -math.inf)))
    assert margin(entry) == 100
    assert entropy(entry) == pytest.approx(0, abs=1e-9)
