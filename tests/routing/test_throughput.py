"""The moving means that the prediction of a dry run rests on."""

import pytest

from app.engine.scripted import SMALL
from app.routing.throughput import ASSUMED_TOKENS, Models, ThroughputEstimator
from strategies.core.strategy import Forecast


def test_before_the_first_observation_a_length_is_assumed_and_no_seconds_are_predicted() -> None:
    """The assumed length is 256 tokens, or the limit of the request."""
    estimator = ThroughputEstimator()
    assert estimator.answer_tokens(10_000) == ASSUMED_TOKENS
    assert estimator.answer_tokens(16) == 16
    assert estimator.predict(Forecast(1, 256), 1, 50, 256, Models(SMALL)).seconds is None


def test_lengths_and_speeds_are_moving_means() -> None:
    """The newest observation has a weight of a tenth. The speed is that of the nearest number of concurrent branches."""
    estimator = ThroughputEstimator()
    estimator.observe(1, 100, 10.0, [100])
    estimator.observe(16, 1000, 10.0, [200])
    assert estimator.answer_tokens(10_000) == 110
    assert estimator.predict(Forecast(1, 50), 1, 50, 50, Models(SMALL)).seconds == pytest.approx(5)
    assert estimator.predict(Forecast(12, 50), 12, 50, 50, Models(SMALL)).seconds == pytest.approx(0.5)
    assert estimator.predict(Forecast(64, 50), 64, 50, 50, Models(SMALL)).seconds == pytest.approx(0.5)
    estimator.observe(16, 0, 10.0, [])  # a request without tokens tells no speed
    assert estimator.predict(Forecast(16, 50), 16, 50, 50, Models(SMALL)).seconds == pytest.approx(0.5)


def test_flops_of_one_branch_are_exact_and_scores_are_charged() -> None:
    """One answer costs what the architecture computes. A score reads the verifier's question and generates one token."""
    estimator = ThroughputEstimator()
    plain = estimator.predict(Forecast(1, 20), 1, 50, 20, Models(SMALL))
    assert plain.flops == sum(SMALL.branch_cost(50, 0, 20))
    scored = estimator.predict(Forecast(1, 20, verifier_calls=2), 1, 50, 20, Models(SMALL))
    assert scored.flops > plain.flops
    assert scored.tokens == plain.tokens + 2


def test_branches_after_the_first_find_the_prompt_in_the_cache() -> None:
    """Eight answers cost less than eight times one."""
    estimator = ThroughputEstimator()
    one = estimator.predict(Forecast(1, 20), 1, 500, 20, Models(SMALL)).flops
    eight = estimator.predict(Forecast(8, 160), 8, 500, 20, Models(SMALL)).flops
    assert eight < 3 * one
