"""A cascade asks the cheap model first, and a dearer one where that is worth its FLOPs."""

import pytest

from app.request import Effort
from app.routing.cascade import Attempt, GeneralCascade, Member
from app.routing.difficulty import Difficulty

PRICES = {Effort.LOW: 1e-3, Effort.MEDIUM: 3e-4, Effort.HIGH: 1e-4}


def member(name: str, difficulty: float, tokens: float, size: float, load: float = 0.0) -> Member:
    return Member(name, Difficulty(difficulty, 0, 1, "general"), tokens * size, size, load)


def choose(small: float, large: float, *attempts: Attempt, effort: Effort = Effort.MEDIUM, load: float = 0.0) -> str | None:
    members = [member("small", small, 200, 3e8), member("large", large, 200, 3e9, load)]
    return GeneralCascade(PRICES).choose("17 + 25?", members, attempts, effort).member


@pytest.mark.parametrize(
    ("small", "large", "first"),
    [(0.1, 0.1, "small"), (0.5, 0.3, "small"), (0.999, 0.1, "large"), (0.999, 0.999, "small")],
)
def test_the_cheap_model_answers_first_unless_it_is_almost_surely_wrong(small: float, large: float, first: str) -> None:
    assert choose(small, large) == first


def test_a_cheap_model_that_is_mostly_wrong_is_passed_over_for_one_of_the_same_cost() -> None:
    """Its doubtful answer would only be paid besides."""
    members = [member("base", 0.83, 200, 3e8), member("adapter", 0.13, 200, 3.1e8)]
    assert GeneralCascade(PRICES).choose("17 + 25?", members, (), Effort.MEDIUM).member == "adapter"


def test_the_dearer_model_is_asked_where_the_answer_is_in_doubt() -> None:
    assert choose(0.5, 0.3, Attempt("small", 0.05)) is None
    assert choose(0.5, 0.3, Attempt("small", 0.9)) == "large"


def test_nobody_is_asked_behind_the_dearest_one_or_on_a_hopeless_question() -> None:
    assert choose(0.5, 0.3, Attempt("large", 0.9)) is None
    assert choose(0.99, 0.99, Attempt("small", 0.99)) is None


def test_effort_and_load_set_the_price() -> None:
    """A gain of about 0.15 for 200 tokens is worth it at high effort, and neither at low effort nor where the dear pool has load."""
    doubt = Attempt("small", 0.45)
    assert choose(0.45, 0.3, doubt, effort=Effort.HIGH) == "large"
    assert choose(0.45, 0.3, doubt, effort=Effort.LOW) is None
    assert choose(0.45, 0.3, doubt, effort=Effort.HIGH, load=1.0) is None


def test_only_the_flops_of_a_pool_with_load_are_dearer() -> None:
    """Of two equal models the idle one is asked, and an idle one is asked however busy the other pools are."""
    equal = [member("busy", 0.3, 200, 3e8, load=1.0), member("idle", 0.3, 200, 3e8)]
    assert GeneralCascade(PRICES).choose("17 + 25?", equal, (), Effort.MEDIUM).member == "idle"
    busy = [member("small", 0.45, 200, 3e8, load=1.0), member("large", 0.3, 200, 3e9)]
    assert GeneralCascade(PRICES).choose("17 + 25?", busy, (Attempt("small", 0.45),), Effort.HIGH).member == "large"


def test_adapters_of_one_model_are_chosen_by_their_difficulty() -> None:
    members = [member("a", 0.6, 200, 3e8), member("b", 0.2, 200, 3e8)]
    assert GeneralCascade(PRICES).choose("17 + 25?", members, (), Effort.MEDIUM).member == "b"
