"""A cascade is fitted to two models of which each is better on some kinds of questions."""

import random
from collections.abc import Mapping

import numpy as np
import pytest

from app.lab.calibration.cascade_runs import MeasuredMember, prices_per_flop
from app.lab.calibration.cascades import Outcomes, build_cascade
from app.lab.calibration.evaluation import performance_of
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.pooled_questions import ReplayOutcome
from app.request import Effort
from app.routing.cascade_file import MAX_BYTES, CascadeFile, parse_cascade
from app.routing.features import prompt_features
from strategies.core.values import AnswerKind, StopReason
from tests.lab.calibration.test_fitting import TOKENS, trajectory

SUM, STORY, RIDDLE = "What is 1 + 2?", "Ann has three apples more than Tom", "A riddle of the king"

SMALL, LARGE = {SUM: 0.95, STORY: 0.05, RIDDLE: 0.02}, {SUM: 0.9, STORY: 0.9, RIDDLE: 0.02}
"""The probability that an answer is right, by the kind of question."""

SIZE = 20
"""How many times as many FLOPs the large model takes."""


Built = tuple[CascadeFile, Mapping[float, Outcomes]]


def member(name: str, chances: Mapping[str, float], size: int, seed: int, num: int = 150) -> MeasuredMember:
    generator, found = random.Random(seed), []
    for number in range(num):
        text = (SUM, STORY, RIDDLE)[number % 3]
        rows = [trajectory(chances[text], False, generator, flops=1000 * size) for _ in range(2)]
        direct = ReplayOutcome(rows[0][0].right, rows[0][0].flops, 0, TOKENS, 1, StopReason.COMPLETED)
        found.append(ObservedQuestion(text, text, 1, AnswerKind.MATH, direct, rows))
    return MeasuredMember({"model": name, "adapter": None, "architecture": {}}, found)


@pytest.fixture(scope="module")
def members() -> list[MeasuredMember]:
    return [member("small", SMALL, 1, 0), member("large", LARGE, SIZE, 1)]


@pytest.fixture(scope="module")
def built(members: list[MeasuredMember]) -> Built:
    return build_cascade(members)


def test_each_kind_of_question_is_answered_by_who_can(members: list[MeasuredMember], built: Built) -> None:
    """Sums by the small model, stories by the large one, and on riddles nobody spends the FLOPs of the large one."""
    file, outcomes = built
    texts = [one.text for one in members[0].observed]
    asked = {kind: set() for kind in (SUM, STORY, RIDDLE)}
    medium = outcomes[file.prices[Effort.MEDIUM]]
    share = {
        kind: np.mean([1 in one.asked for text, each in zip(texts, medium, strict=True) for one in each if text == kind])
        for kind in asked
    }
    assert share[SUM] < 0.2
    assert share[STORY] > 0.9
    assert share[RIDDLE] < 0.2
    small, large = file.members
    assert [one.wrong(prompt_features(SUM)) for one in file.members] == pytest.approx([0.05, 0.1], abs=0.1)
    assert large.wrong(prompt_features(STORY)) == pytest.approx(0.1, abs=0.1)
    assert small.log_flops(prompt_features(SUM)) < large.log_flops(prompt_features(SUM))


def test_it_is_as_accurate_as_the_large_model_and_cheaper(members: list[MeasuredMember], built: Built) -> None:
    file, outcomes = built
    large = (
        np.mean([one.direct.right for one in members[1].observed]),
        np.mean([one.direct.flops for one in members[1].observed]),
    )
    low, medium, high = (performance_of(effort, outcomes[file.prices[effort]]) for effort in Effort)
    assert medium.mean >= large[0] - 0.02
    assert medium.flops.mean() < 0.6 * large[1]
    assert low.flops.mean() <= large[1] / 3
    assert low.flops.mean() <= medium.flops.mean() <= high.flops.mean() <= large[1]


def test_a_lower_price_asks_the_large_model_more_often(members: list[MeasuredMember], built: Built) -> None:
    _, outcomes = built
    assert sorted(outcomes, reverse=True) == prices_per_flop(members)
    asked = [np.mean([1 in one.asked for each in outcomes[price] for one in each]) for price in prices_per_flop(members)]
    assert asked[0] < 0.1
    assert asked[0] < asked[7] < asked[-1]


def test_the_file_is_small_and_can_be_read(built: Built) -> None:
    content = built[0].model_dump_json().encode()
    assert len(content) < MAX_BYTES / 4
    assert parse_cascade(content).model_dump() == built[0].model_dump()
