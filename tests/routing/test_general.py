"""The general estimator knows every model: it estimates any question that can have a right answer, and says how sure it is."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.request import Effort
from app.routing.estimators import Estimator
from app.routing.features import prompt_features
from app.routing.general import SHIPPED, SURE_DIFFICULTY, GeneralPolicy
from app.routing.general_features import (
    FIRST_TOKEN_FEATURES,
    NUM_GENERAL_FEATURES,
    PromptReading,
    first_token_features,
)
from app.routing.general_file import GeneralFile
from app.routing.policy import Query
from strategies.checking.chains import NUM_FIRST_TOKENS
from strategies.core.values import AnswerKind
from tests.example_policies import constant

SHIPPED_POLICY = GeneralPolicy.shipped()


def file(*difficulties: float, **fields: object) -> GeneralFile:
    members = [constant(one, NUM_GENERAL_FEATURES, "logistic") for one in difficulties]
    return GeneralFile.model_validate({**json.loads(SHIPPED.read_text()), "prompt_difficulty": members, **fields})


def query(kind: AnswerKind = AnswerKind.MATH, effort: Effort = Effort.MEDIUM, **fields: object) -> Query:
    return Query(**{"kind": kind, "effort": effort, "question": "What is 17 + 25?", **fields})


@pytest.mark.parametrize("kind", list(AnswerKind))
@pytest.mark.parametrize("effort", list(Effort))
def test_every_question_that_can_have_a_right_answer_has_a_difficulty(kind: AnswerKind, effort: Effort) -> None:
    plan = SHIPPED_POLICY.plan(query(kind, effort))
    assert (plan.difficulty is None) == (kind is AnswerKind.OPEN)
    assert not plan.is_calibrated
    if plan.difficulty is not None:
        assert 0 <= plan.difficulty.low <= plan.difficulty.probability <= plan.difficulty.high <= 1
        assert plan.difficulty.estimator == "general"
        assert 1 <= plan.bin <= 5


def test_the_interval_is_what_the_members_disagree_on() -> None:
    sure, unsure = (GeneralPolicy(file(*ends)).difficulty(query()) for ends in ([0.5] * 4, [0.2, 0.4, 0.6, 0.8]))
    assert sure is not None
    assert unsure is not None
    assert sure.low == pytest.approx(sure.high)
    assert unsure.probability == pytest.approx(0.5)
    assert 0.2 < unsure.low < 0.3
    assert 0.7 < unsure.high < 0.8


def test_a_surely_easy_question_gets_one_greedy_answer() -> None:
    """One that only some members call easy is answered in waves."""
    easy, doubtful = (GeneralPolicy(file(*ends)).plan(query()) for ends in ([SURE_DIFFICULTY / 2] * 3, [0.01, 0.2]))
    assert (easy.strategy, easy.temperature, easy.rule) == ("direct", 0.0, None)
    assert doubtful.strategy == "adaptive"


def test_a_cascade_sets_the_price_of_a_flop() -> None:
    """A model of twice the size pays twice as much for a token."""
    policy = GeneralPolicy.shipped()
    small, large = (policy.plan(query(price=1e-12, token_flops=flops)) for flops in (1e9, 2e9))
    assert (small.rule._price, large.rule._price) == pytest.approx((1e-3, 2e-3))


def test_a_busy_server_pays_more_for_compute_and_says_so() -> None:
    assert "busy" in SHIPPED_POLICY.plan(query(load=1.0)).why
    assert "busy" not in SHIPPED_POLICY.plan(query(load=0.5)).why


@given(text=st.text(max_size=3000), flops=st.floats(0, 1e15), kind=st.sampled_from(AnswerKind))
def test_any_prompt_has_finite_features(text: str, flops: float, kind: AnswerKind) -> None:
    features = PromptReading(text, kind).general(flops)
    assert features.shape == (NUM_GENERAL_FEATURES,)
    assert np.isfinite(features).all()


def test_longer_numbers_are_more_work_in_any_words() -> None:
    """All counts of a sum with more and longer numbers are at least as high."""
    short, long = (PromptReading(text, AnswerKind.MATH).general(1e9) for text in ("Add 1 + 2.", "Sum of 123 + 456 + 789 + 12."))
    assert (long[2:6] > short[2:6]).all()


@given(logprobs=st.lists(st.floats(-100, 0), min_size=1, max_size=NUM_FIRST_TOKENS))
def test_any_first_tokens_have_finite_features(logprobs: list[float]) -> None:
    features = first_token_features(logprobs)
    assert features.shape == (len(FIRST_TOKEN_FEATURES),)
    assert np.isfinite(features).all()
    assert 0 <= SHIPPED_POLICY.after_first_tokens(query(), logprobs) <= 1


def test_a_hesitant_beginning_makes_a_question_more_difficult() -> None:
    sure, unsure = ([logprob] * NUM_FIRST_TOKENS for logprob in (-0.01, -1.0))
    assert SHIPPED_POLICY.after_first_tokens(query(), unsure) > SHIPPED_POLICY.after_first_tokens(query(), sure) + 0.2


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"version": 2}, "version"),
        ({"prompt_difficulty": []}, "prompt_difficulty"),
        ({"prompt_difficulty": [constant(0.5, 3, "logistic")]}, "features"),
        ({"first_tokens": constant(0.5, 3, "logistic")}, "first_tokens"),
        ({"stages": []}, "stages"),
        ({"prices": {"low": 1.0}}, "prices"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_broken_file_is_refused(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        file(0.5, **fields)


def test_the_shipped_file_is_small_data() -> None:
    assert SHIPPED.stat().st_size < 2 * 2**20
    assert all(isinstance(one, Estimator) for one in SHIPPED_POLICY.file.prompt_difficulty)


def test_a_decision_takes_a_few_times_as_long_as_reading_the_words(seconds) -> None:
    """So it takes less than a millisecond where they take 0.2."""
    question = "How many apples have 17 boys with 23 apples each, less 5 that were eaten? " * 25
    reading = seconds(lambda: [prompt_features(question) for _ in range(50)])
    assert seconds(lambda: [SHIPPED_POLICY.plan(query(question=question)) for _ in range(50)]) < 6 * reading
