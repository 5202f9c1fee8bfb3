"""A fitted cascade chooses by what was measured of its members, and its file is refused where something is wrong with it."""

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from app.engine.scripted import SMALL
from app.errors import InvalidRequest
from app.request import Effort
from app.routing.cascade import Attempt, Choice, GeneralCascade, Member
from app.routing.cascade_file import MAX_BYTES, CascadeFile, parse_cascade
from app.routing.cascade_limits import MAX_MEMBERS
from app.routing.difficulty import Difficulty
from app.routing.features import NUM_PROMPT_FEATURES, prompt_features
from app.routing.fitted_cascade import FittedCascade

SUM, STORY = "17 + 25?", "Ann has three apples more than Tom"

SMALL_FLOPS, LARGE_FLOPS = 5e10, 1e12

PRICES = {Effort.LOW: 0.5 / LARGE_FLOPS, Effort.MEDIUM: 0.2 / LARGE_FLOPS, Effort.HIGH: 0.01 / LARGE_FLOPS}


def constant(link: str, value: float, size: int = NUM_PROMPT_FEATURES) -> dict[str, Any]:
    return {"link": link, "mean": [0.0] * size, "scale": [1.0] * size, "weights": [0.0] * size, "bias": value}


def tells_sums(easy: float, hard: float) -> dict[str, Any]:
    """An estimator with the log-odds `easy` for sums and `hard` for stories."""
    direction = prompt_features(STORY) - prompt_features(SUM)
    weights = direction * (hard - easy) / float(direction @ direction)
    bias = easy - float(weights @ prompt_features(SUM))
    return {**constant("logistic", bias), "weights": weights.tolist()}


def member(wrong: dict[str, Any], flops: float, adapter: str | None = None) -> dict[str, Any]:
    return {
        "model": "m", "adapter": adapter, "architecture": SMALL.to_dict(), "wrong": wrong,
        "log_flops": constant("identity", float(np.log(flops))), "if_right": [-3.0, -2.0], "if_wrong": [2.0, 3.0],
    }  # fmt: skip


def content(**changes: object) -> dict[str, Any]:
    """The small member solves sums alone; the large one solves all, whatever the answer of the small one was."""
    escalation = {"first": 0, "other": 1, "wrong": {**constant("logistic", 0.0, 3), "weights": [0.0, 0.0, 1.0]}}
    return {
        "version": 1, "provenance": {}, "prices": PRICES, "escalations": [escalation],
        "members": [member(tells_sums(-2.0, 5.0), SMALL_FLOPS), member(tells_sums(-2.5, -2.5), LARGE_FLOPS, "a" * 64)],
        **changes,
    }  # fmt: skip


class Fallback:
    def choose(self, *_: object) -> Choice:
        return Choice("fallback", "")


def served(*names: str, load: float = 0.0) -> list[Member]:
    return [Member(name, Difficulty(0.5, 0, 1, "general"), 1e12, 1e9, load) for name in names]


def choose(question: str, *attempts: Attempt, effort: Effort = Effort.MEDIUM, load: float = 0.0) -> str | None:
    cascade = FittedCascade(CascadeFile.model_validate(content()), {"small": 0, "large": 1}, Fallback())
    return cascade.choose(question, served("small", "large", "other", load=load), attempts, effort).member


def test_the_cheap_member_answers_first_what_it_can_and_the_dear_one_the_rest() -> None:
    assert choose(SUM) == "small"
    assert choose(STORY) == "large"


def test_the_dear_member_is_asked_where_the_answer_is_in_doubt() -> None:
    assert choose(SUM, Attempt("small", 0.1)) is None
    assert choose(SUM, Attempt("small", 0.9)) == "large"
    assert choose(SUM, Attempt("small", 0.9), Attempt("large", 0.9)) is None


def test_the_dearest_member_is_the_last_one() -> None:
    cascade = FittedCascade(CascadeFile.model_validate(content()), {"small": 0, "large": 1}, Fallback())
    choices = [cascade.choose(text, served("small", "large"), (), Effort.MEDIUM) for text in (SUM, STORY)]
    assert [one.is_last for one in choices] == [False, True]
    assert cascade.choose(SUM, served("small"), (), Effort.MEDIUM).is_last
    assert cascade.choose(SUM, served("small", "large"), (Attempt("small", 0.9),), Effort.MEDIUM).is_last


def test_members_stop_their_own_search_at_the_same_price() -> None:
    cascade = FittedCascade(CascadeFile.model_validate(content()), {"small": 0, "large": 1}, Fallback())
    for effort in Effort:
        assert cascade.choose(SUM, served("small", "large", load=1.0), (), effort).price == PRICES[effort]


@pytest.mark.parametrize("after", [0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_a_higher_price_never_asks_more(after: float) -> None:
    asked = [
        choose(SUM, Attempt("small", after), effort=effort, load=load) is not None
        for effort, load in ((Effort.HIGH, 0.0), (Effort.MEDIUM, 0.0), (Effort.LOW, 0.0), (Effort.LOW, 1.0))
    ]
    assert asked == sorted(asked, reverse=True)


def test_more_doubt_never_asks_less() -> None:
    asked = [choose(SUM, Attempt("small", after)) is not None for after in np.linspace(0, 1, 21)]
    assert asked == sorted(asked)
    assert not asked[0]
    assert asked[-1]


@pytest.mark.parametrize(
    ("available", "attempts"), [(("other",), ()), (("small", "large"), (Attempt("other", 0.5),))], ids=["members", "attempts"]
)
def test_the_fallback_chooses_among_members_that_the_file_does_not_know(
    available: tuple[str, ...], attempts: tuple[Attempt, ...]
) -> None:
    cascade = FittedCascade(CascadeFile.model_validate(content()), {"small": 0, "large": 1}, Fallback())
    assert cascade.choose(SUM, served(*available), attempts, Effort.LOW).member == "fallback"


def test_a_member_that_is_down_is_not_asked() -> None:
    cascade = FittedCascade(CascadeFile.model_validate(content()), {"small": 0, "large": 1}, Fallback())
    assert cascade.choose(STORY, served("small"), (), Effort.HIGH).member == "small"
    assert cascade.choose(STORY, served("small"), (Attempt("small", 0.99),), Effort.HIGH).member is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"escalations": []}, "one escalation is needed for each pair"),
        ({"prices": {"low": 1e-12}}, "prices are needed for all"),
        ({"prices": {**PRICES, "low": -1.0}}, "prices.low"),
        ({"members": content()["members"][:1]}, "members"),
        ({"members": [member(constant("logistic", 0.0, 5), 1.0)] * 2}, "do not take"),
        ({"members": [member(constant("identity", 0.0), 1.0)] * 2}, "wrong links"),
        ({"members": [member(constant("logistic", 0.0), 1.0)] * (MAX_MEMBERS + 1)}, "members"),
        ({"extra": 1}, "extra"),
        ({"version": 2}, "version"),
    ],
)
def test_a_broken_file_is_refused(changes: Mapping[str, object], fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        parse_cascade(json.dumps(content(**changes)).encode())


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(InvalidRequest, match="bytes"):
        parse_cascade(b" " * (MAX_BYTES + 1))


def test_a_decision_takes_less_than_a_millisecond() -> None:
    cascade = FittedCascade(CascadeFile.model_validate(content()), {"small": 0, "large": 1}, GeneralCascade(PRICES))
    members, times = served("small", "large"), []
    for _ in range(50):
        start = time.thread_time()
        cascade.choose(STORY * 20, members, (), Effort.MEDIUM)
        times.append(time.thread_time() - start)
    assert sorted(times)[25] < 1e-3
