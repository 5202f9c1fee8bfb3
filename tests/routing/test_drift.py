"""A policy whose estimates are worse than the general ones is left, one that is as good is kept, and no key alone decides that."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routing.learning.drift import LEAST_OUTCOMES, Drift
from app.routing.learning.file import read_learned, write_learned
from app.routing.learning.learner import Learner
from app.routing.learning.lesson import Subject
from app.routing.learning.words import Words

CALIBRATED = Subject("m", "", "", "calibrated", "0")


def outcomes_until_left(own: float, rival: float, truth: float, num: int, seed: int = 0, **fields: object) -> int | None:
    """After how many outcomes a policy that always says `own` is left, where `truth` is the share that comes true."""
    drift, chance = Drift(), random.Random(seed)
    for number in range(1, num + 1):
        if drift.observe(own, rival, float(chance.random() < truth), 1.0, **fields):
            return number
    return None


def test_a_policy_that_is_worse_is_left_soon() -> None:
    """Not before there are outcomes enough, and the sooner the worse it is."""
    bad, worse = (outcomes_until_left(own, 0.5, 0.5, 2000) for own in (0.1, 0.01))
    assert LEAST_OUTCOMES * 0.9 <= worse <= bad < 400


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("own", "rival"), [(0.5, 0.1), (0.5, 0.5), (0.45, 0.55)])
def test_a_policy_that_is_as_good_is_kept(seed: int, own: float, rival: float) -> None:
    assert outcomes_until_left(own, rival, 0.5, 1000, seed) is None


def test_one_of_several_keys_alone_makes_no_policy_be_left() -> None:
    """But a second one does."""
    drift = Drift()
    for _ in range(1000):
        assert not drift.observe(0.9, 0.1, 0.0, 1.0, "flood", has_others=True)
    assert any(drift.observe(0.9, 0.1, 0.0, 1.0, "other", has_others=True) for _ in range(100))


def test_a_policy_that_was_left_stays_left() -> None:
    drift = Drift(is_left=True)
    for _ in range(500):
        assert not drift.observe(0.1, 0.9, 0.0, 1.0)
    assert drift.is_left


@given(st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 4), max_size=50))
def test_the_evidence_is_finite_whatever_comes(observations) -> None:
    drift = Drift()
    for own, rival, outcome, weight in observations:
        drift.observe(own, rival, outcome, weight)
    assert math.isfinite(drift.evidence)
    assert drift.evidence >= 0


def test_it_survives_a_restart_and_ends_with_a_choice(tmp_path) -> None:
    learner = Learner()
    lesson = learner.begin(CALIBRATED, "key", 0.9, Words.of("What is 1 + 1?"))
    lesson.rival, lesson.gives_first = 0.1, True
    lesson.judge(is_right=True)
    write_learned(tmp_path / "learned", learner)
    again = Learner(read_learned(tmp_path / "learned"))
    assert again.drift(CALIBRATED).evidence == learner.drift(CALIBRATED).evidence > 0
    again.trust_again("other")
    assert again.drift(CALIBRATED).evidence > 0
    again.trust_again("m")
    assert again.drift(CALIBRATED).evidence == 0
