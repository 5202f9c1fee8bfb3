"""What a dry run's prediction rests on."""

import pytest

from app.engine.scripted import SMALL
from app.routing.throughput import ASSUMED_TOKENS, ThroughputEstimator
from strategies.core.strategy import Forecast


def test_before_anything_was_seen_it_assumes_and_says_no_seconds() -> None:
    """An answer of 256 tokens, or what the request allows; how fast the engine is nobody knows."""
    pace = ThroughputEstimator()
    assert pace.answer_tokens(10_000) == ASSUMED_TOKENS
    assert pace.answer_tokens(16) == 16
    assert pace.predict(Forecast(1, 256), 1, 50, 256, SMALL).seconds is None


def test_it_goes_by_what_was_seen_last() -> None:
    """Moving means, with a tenth for the newest; speeds by the nearest number of branches at once."""
    pace = ThroughputEstimator()
    pace.observe(1, 100, 10.0, [100])
    pace.observe(16, 1000, 10.0, [200])
    assert pace.answer_tokens(10_000) == 110
    assert pace.predict(Forecast(1, 50), 1, 50, 50, SMALL).seconds == pytest.approx(5)
    assert pace.predict(Forecast(12, 50), 12, 50, 50, SMALL).seconds == pytest.approx(0.5)
    assert pace.predict(Forecast(64, 50), 64, 50, 50, SMALL).seconds == pytest.approx(0.5)
    pace.observe(16, 0, 10.0, [])  # nothing was generated: nothing is learned
    assert pace.predict(Forecast(16, 50), 16, 50, 50, SMALL).seconds == pytest.approx(0.5)


def test_flops_of_one_branch_are_exact_and_verdicts_are_charged() -> None:
    """One answer after one prompt is what the architecture says; each verdict reads its question and says one token."""
    pace = ThroughputEstimator()
    plain = pace.predict(Forecast(1, 20), 1, 50, 20, SMALL)
    assert plain.flops == sum(SMALL.branch_cost(50, 0, 20))
    judged = pace.predict(Forecast(1, 20, verdicts=2), 1, 50, 20, SMALL)
    assert judged.flops > plain.flops
    assert judged.tokens == plain.tokens + 2


def test_branches_after_the_first_find_the_prompt_in_the_cache() -> None:
    """Eight answers cost less than eight times one."""
    pace = ThroughputEstimator()
    one = pace.predict(Forecast(1, 20), 1, 500, 20, SMALL).flops
    eight = pace.predict(Forecast(8, 160), 8, 500, 20, SMALL).flops
    assert eight < 3 * one
