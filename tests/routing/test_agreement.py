"""The agreement model gives each answer a probability of being right, from nothing but the answers that were drawn."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.routing.agreement import (
    AGREEMENT_FEATURES,
    FALLING,
    RISING,
    AgreementModel,
    Ballot,
    agreement_features,
    shipped_agreement,
)

LOGPROBS = st.floats(-5, 0)

BALLOTS = st.builds(
    Ballot, answer=st.sampled_from(["7", "12", "yes", "4, 5", None]), is_sound=st.booleans(), is_first=st.booleans(), logprob=LOGPROBS,
    lowest=LOGPROBS, length=st.integers(1, 500),
)  # fmt: skip

MODELS = st.builds(
    AgreementModel,
    bias=st.floats(-4, 4),
    weights=st.fixed_dictionaries(
        {
            name: st.floats(0, 4) if name in RISING else st.floats(-4, 0) if name in FALLING else st.floats(-4, 4)
            for name in AGREEMENT_FEATURES
        }
    ),
)


@given(model=MODELS, ballots=st.lists(BALLOTS, max_size=12))
def test_at_most_one_answer_is_right(model: AgreementModel, ballots: list[Ballot]) -> None:
    """So the probabilities sum to at most 1, and all answers that can be read have one."""
    found = model.probabilities(ballots)
    assert found.keys() == {one.answer for one in ballots} - {None}
    assert all(0 <= one <= 1 for one in found.values())
    assert sum(found.values()) <= 1 + 1e-9


@given(model=MODELS, ballots=st.lists(BALLOTS, min_size=1, max_size=12), data=st.data())
def test_the_order_of_the_answers_does_not_matter(model: AgreementModel, ballots: list[Ballot], data: st.DataObject) -> None:
    shuffled = model.probabilities(data.draw(st.permutations(ballots)))
    assert shuffled == pytest.approx(dict(model.probabilities(ballots)))


def test_answers_that_differ_only_in_their_least_probable_tokens_count_in_any_order() -> None:
    model = AgreementModel(bias=0, weights={"lowest": 1.0})
    ballots = [Ballot("12", is_sound=True, is_first=False, logprob=0.0, lowest=lowest, length=1) for lowest in (0.0, -1.0)]
    assert model.probabilities(ballots) == model.probabilities(ballots[::-1])


def votes(answer: str, number: int) -> list[Ballot]:
    return [Ballot(answer, is_sound=True, is_first=False, logprob=-0.3, lowest=-0.9, length=40)] * number


@given(model=MODELS, mine=st.integers(1, 8), theirs=st.integers(2, 8))
def test_a_vote_that_changes_sides_never_makes_its_new_answer_less_probable(
    model: AgreementModel, mine: int, theirs: int
) -> None:
    before = model.probabilities([*votes("7", mine), *votes("12", theirs)])
    after = model.probabilities([*votes("7", mine + 1), *votes("12", theirs - 1)])
    assert after["7"] >= before["7"] - 1e-9


def test_the_shipped_model_believes_in_agreement_but_not_blindly() -> None:
    model = shipped_agreement()
    agreed, divided = (
        model.probabilities(votes("42", 8)),
        model.probabilities([*votes("42", 2), *votes("41", 2), *votes("7", 4)]),
    )
    assert 0.1 < agreed["42"] < 0.99
    assert divided["42"] < agreed["42"] / 2
    refuted = [Ballot("42", is_sound=False, is_first=False, logprob=-0.3, lowest=-0.9, length=40)] * 8
    assert model.probabilities(refuted)["42"] < agreed["42"]


def test_no_answer_has_no_probability() -> None:
    nothing = [Ballot(None, is_sound=False, is_first=True, logprob=-1, lowest=-2, length=384)]
    assert shipped_agreement().probabilities(nothing) == shipped_agreement().probabilities([]) == {}


def test_an_estimated_difficulty_counts_where_the_model_has_a_weight_for_it() -> None:
    """The shipped one was fitted without one."""
    [one] = agreement_features(votes("7", 2), 0.75).values()
    assert one[AGREEMENT_FEATURES.index("difficulty")] == pytest.approx(math.log(3))
    model = AgreementModel(bias=0, weights={"difficulty": -1})
    assert model.probabilities(votes("7", 2), 0.9)["7"] < model.probabilities(votes("7", 2))["7"]


@pytest.mark.parametrize("change", [{"weights": {"shares": 1.0}}, {"bias": float("nan")}, {"version": 2}, {"more": 1}])
def test_a_broken_file_is_refused(change: dict) -> None:
    with pytest.raises(ValidationError):
        AgreementModel.model_validate({"bias": 0, "weights": {}, **change})
