"""A calibrated policy plans by the difficulty of the prompt, stops by the value of computation, and charges more under load."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.request import Effort
from app.routing.calibrated import MAX_PRICE_MULTIPLIER, CalibratedPolicy
from app.routing.estimators import Estimator
from app.routing.features import EVIDENCE_FEATURES, NUM_PROMPT_FEATURES, evidence_features, prompt_features
from app.routing.policy import BUSY_LOAD, Query
from app.routing.policy_file import Stage
from app.routing.value_of_computation import ValueOfComputationRule, WaveEstimators
from strategies.core.stopping_rule import Decision, Evidence
from strategies.core.values import AnswerKind, StopReason
from tests.example_policies import constant, policy


def evidence(**fields: object) -> Evidence:
    defaults = {
        "answers": 1, "attempts": 1, "leader": 0, "votes": (1,), "num_filtered": 0, "num_unread": 0, "first_is_true": True,
        "first_leads": True, "logprob": -0.1, "lowest": -0.3, "tokens": 10, "length": 10,
    }  # fmt: skip
    return Evidence(**{**defaults, **fields})


def stage(answers: int) -> Stage:
    return Stage(answers=answers, right=constant(0.5), gains=())


def rule(price: float = 1e-3, **fields: float) -> ValueOfComputationRule:
    return ValueOfComputationRule(WaveEstimators(policy(**fields).stages, evidence_features), 0.5, price)


def query(effort: Effort = Effort.MEDIUM, **fields: object) -> Query:
    return Query(**{"kind": AnswerKind.MATH, "effort": effort, "question": "What is 1 + 1?", **fields})


def test_a_search_continues_while_the_expected_gain_is_worth_its_price() -> None:
    """A gain of 0.1 for ten tokens is worth it at a price of 0.001 a token, and not at 0.1."""
    cheap, dear = rule(price=1e-3), rule(price=0.1)
    assert cheap.decide(evidence()).answers == 2
    assert cheap.decide(evidence(answers=2, votes=(1, 1))).answers == 4
    assert cheap.decide(evidence(answers=4, votes=(2, 2))).answers is None
    assert dear.decide(evidence()).answers is None


def test_a_stage_that_the_policy_does_not_know_is_the_last_one() -> None:
    """For instance that of a caller who wants several answers."""
    assert rule().decide(evidence(answers=3)) == Decision(None)


@pytest.mark.parametrize(
    ("right", "reason"),
    [(0.97, StopReason.SETTLED), (0.5, StopReason.DIMINISHING_RETURNS), (0.01, StopReason.DIMINISHING_RETURNS)],
)
def test_the_stop_reason(right: float, reason: StopReason) -> None:
    """The rule says `settled` where the answer is almost surely right, and names the price where another wave is not worth it."""
    one = rule(right=right, gain=0.0)
    assert one.decide(evidence()) == Decision(None, reason)
    assert one.difficulty_after_wave == pytest.approx(1 - right)


def test_the_bin_and_the_effort_give_the_plan() -> None:
    easy, hard = CalibratedPolicy(policy(hard=0.1)).plan(query()), CalibratedPolicy(policy(hard=0.7)).plan(query())
    assert (easy.strategy, easy.temperature, easy.rule) == ("direct", 0.0, None)
    assert (hard.strategy, hard.params) == ("adaptive", {"n": 4, "attempts": 3})
    assert hard.difficulty.probability == pytest.approx(0.7)
    assert hard.difficulty.low < 0.7 < hard.difficulty.high
    assert hard.difficulty.estimator == "calibrated"
    assert hard.is_calibrated
    assert "bin 4 of 5" in hard.why
    assert CalibratedPolicy(policy()).plan(query(kind=AnswerKind.OPEN)) is None


def test_a_cascade_sets_the_price_and_looks_at_the_answer() -> None:
    """So a bin that is answered directly is not, where a cascade asks."""
    easy = CalibratedPolicy(policy(hard=0.1))
    assert easy.plan(query(is_followed=True)).strategy == "adaptive"
    cheap, dear = easy.plan(query(price=1e-15)), easy.plan(query(price=1.0))
    assert cheap.strategy == dear.strategy == "adaptive"
    assert cheap.rule.decide(evidence()).answers == 2
    assert dear.rule.decide(evidence()).answers is None


def test_under_load_compute_costs_more_and_the_plan_says_so() -> None:
    """Compute gets dearer before any request is rejected. At full load the price has its highest multiplier."""
    file = policy(gain=0.05)
    calm, busy = (CalibratedPolicy(file).plan(query(load=load)) for load in (BUSY_LOAD, 1.0))
    assert "busy" not in calm.why
    assert f"{MAX_PRICE_MULTIPLIER:.1f} times" in busy.why
    assert calm.rule.decide(evidence()).answers == 2  # 0.05 for 0.03
    assert busy.rule.decide(evidence()).answers is None


@given(text=st.text(max_size=3000))
def test_any_prompt_has_finite_features(text: str) -> None:
    features = prompt_features(text)
    assert features.shape == (NUM_PROMPT_FEATURES,)
    assert np.isfinite(features).all()


@given(
    votes=st.lists(st.integers(1, 16), max_size=5),
    numbers=st.tuples(st.floats(-100, 0), st.floats(-100, 0), st.floats(0, 1e4), st.floats(0, 1)),
)
def test_any_evidence_has_finite_features(votes: list[int], numbers: tuple[float, float, float, float]) -> None:
    logprob, lowest, tokens, difficulty = numbers
    answers = max(sum(votes), 1)
    observed = evidence(
        answers=answers, attempts=2 * answers, votes=tuple(votes), logprob=logprob, lowest=lowest, tokens=int(tokens),
        first_is_true=len(votes) % 2 == 0,
    )  # fmt: skip
    features = evidence_features(observed, difficulty)
    assert features.shape == (len(EVIDENCE_FEATURES),)
    assert np.isfinite(features).all()


def test_numbers_count_by_their_length_alone() -> None:
    """So what was learned of one sum holds for another one."""
    assert np.array_equal(prompt_features("What is 12 + 345?"), prompt_features("What is 98 + 761?"))
    assert not np.array_equal(prompt_features("What is 12 + 345?"), prompt_features("What is 12 + 3456?"))


def test_an_estimator_is_calibrated_by_its_curve() -> None:
    plain = constant(0.5, 1, "logistic")
    curved = plain.model_copy(update={"curve": ((0.25, 0.0), (0.75, 0.5))})
    assert plain(np.zeros(1)) == 0.5
    assert Estimator.model_validate(curved.model_dump())(np.zeros(1)) == 0.25


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"version": 2}, "version"),
        ({"before": constant(0.5, 3, "logistic")}, "features"),
        ({"edges": (0.4, 0.2, 0.6, 0.8)}, "edges"),
        ({"prices": {"low": 1.0}}, "prices"),
        ({"stages": (stage(2), stage(4))}, "begin with one"),
        ({"stages": (stage(1), stage(2), stage(2))}, "grow"),
        ({"stages": (stage(1), stage(4))}, "grow"),
        ({"kinds": ("open", "math")}, "open"),
        ({"flops_per_token": float("nan")}, "flops_per_token"),
        ({"unknown": 1}, "unknown"),
        ({"adapter": "../../etc/passwd"}, "adapter"),
    ],
)
def test_a_broken_policy_is_refused(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        policy(**fields)


def test_planning_reads_only_the_ends_of_a_long_prompt(seconds) -> None:
    """A prompt that is a hundred times as long takes about as long."""
    calibrated = CalibratedPolicy(policy())
    question = "How many apples have 17 boys with 23 apples each, less 5 that were eaten? " * 25

    def plans(text: str) -> Callable[[], object]:
        return lambda: [calibrated.plan(query(question=text)) for _ in range(50)]

    assert seconds(plans(question * 100)) < 3 * seconds(plans(question))
